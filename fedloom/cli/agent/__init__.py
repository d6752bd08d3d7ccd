"""``fedloom agent``."""
