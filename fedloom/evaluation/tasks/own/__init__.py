"""Rows and texts of one's own."""
