"""Harmful requests."""
