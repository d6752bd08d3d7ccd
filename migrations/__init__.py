"""Alembic migrations of the coordinator's database. They are applied when it starts."""
