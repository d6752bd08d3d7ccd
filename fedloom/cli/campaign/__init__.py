"""``fedloom campaign``."""
