"""Orders of a person at this machine, about one base model."""
