"""Whether a base model trains on the loss that it has, measured once and kept by its fingerprint."""
