"""The base model: its files, its weights, its device, the adapter on it."""
