"""Moves campaigns on: prepares agents, opens rounds, aggregates, closes. All it knows is in the database."""
