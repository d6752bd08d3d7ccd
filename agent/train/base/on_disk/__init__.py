"""The base model on this machine: its folder, its files, its fingerprint, and the room for one from the hub."""
