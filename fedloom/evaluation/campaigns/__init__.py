"""Benchmarks that campaigns name, as agents run them on global adapters.

``here.py`` is what an agent is started with.
"""
