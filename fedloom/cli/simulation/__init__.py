"""``fedloom simulate`` and ``fedloom compare``."""
