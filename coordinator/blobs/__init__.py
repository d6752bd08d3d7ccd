"""Bytes that come and go: resumable uploads, ranged downloads, what is kept and for how long."""
