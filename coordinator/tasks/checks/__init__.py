"""Checks of what a result declares and of the files that belong to it."""
