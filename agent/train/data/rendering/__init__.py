"""Rows as text: built-in and chat templates, where replies are in the text, and what of a row it lacks."""
