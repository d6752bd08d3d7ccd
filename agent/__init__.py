"""The worker at a data owner. Its parent process speaks HTTP; its training child holds torch and the data."""

__version__ = "0.1.0"
