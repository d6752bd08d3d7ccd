"""Rounds, tasks and leases: one aggregate, changed together in one transaction."""
