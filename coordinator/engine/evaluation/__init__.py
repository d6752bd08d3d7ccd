"""Evaluation of global adapters: on the clients' held-out rows and by benchmarks; what is decided by the values."""
