"""``fedloom coordinator`` and what an operator asks of it: tokens, storage, algorithms."""
