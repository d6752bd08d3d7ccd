"""A run: tasks over models, in a folder that a killed run goes on in."""
