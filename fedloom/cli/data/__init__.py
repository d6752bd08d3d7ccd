"""``fedloom agent check-data``."""
