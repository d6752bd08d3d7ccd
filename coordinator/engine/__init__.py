"""The engine: prepares agents, opens rounds, aggregates and closes them. All of its state is in the database."""
