"""``fedloom agent pull``: the command, and which adapter it means."""
