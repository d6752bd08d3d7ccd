"""Checks of the owner's data, and what is said about it."""
