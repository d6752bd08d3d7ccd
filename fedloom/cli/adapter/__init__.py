"""``fedloom adapter``."""
