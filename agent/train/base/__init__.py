"""The base model: its folder, fingerprint, device, precision and quantisation, and the adapter on it."""
