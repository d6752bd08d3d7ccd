"""Alembic migrations of the coordinator's database. The coordinator applies them when it starts."""
