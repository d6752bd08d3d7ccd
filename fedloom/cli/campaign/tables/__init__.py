"""The tables of a campaign: its clients, rounds, metrics, benchmarks, tasks and gains."""
