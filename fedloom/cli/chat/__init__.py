"""``fedloom chat``."""
