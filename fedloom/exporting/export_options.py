"""What of a campaign is exported, and how it is written."""

from enum import StrEnum


class What(StrEnum):
    """What is exported."""

    METRICS = "metrics"
    BENCHMARKS = "benchmarks"
    ROUNDS = "rounds"
    EVENTS = "events"
    CLIENTS = "clients"
    GAINS = "gains"


class Format(StrEnum):
    """How it is written."""

    CSV = "csv"
    JSONL = "jsonl"
