"""A further order, in two files: its messages, and its handler."""
