"""Blobs: stores, retention, and cleanup of leftovers."""
