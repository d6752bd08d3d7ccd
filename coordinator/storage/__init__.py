"""Blobs: where their bytes are kept, for how long, and what is left over."""
