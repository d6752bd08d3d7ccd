"""Chunks of uploads on their way to the disk."""
