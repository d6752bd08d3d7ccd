"""``fedloom adapter`` and ``fedloom chat``."""
