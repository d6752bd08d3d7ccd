"""Runs within the sandbox, with nothing but the standard library; nothing here imports the rest of Fedloom."""
