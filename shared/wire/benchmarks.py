"""Benchmarks of global adapters: which an agent offers to run, and what it measured."""

from typing import Annotated

from pydantic import Field

from shared.bounds import Count, Line
from shared.campaign.evaluation import MAX_BENCHMARKS, BenchmarkName
from shared.metrics import Values
from shared.wire.base import Reply, Request, Sha256

MAX_REASON = 400
"""The most characters that say why a benchmark gave no number."""


class OfferedBenchmark(Request):
    """A benchmark that the calling agent can run, with the items that every adapter would be asked."""

    name: BenchmarkName
    n_items: Annotated[Count, Field(ge=1)]
    n_published: Annotated[Count, Field(ge=1)]
    """Items of the whole published set."""
    items_sha256: Sha256
    """Digest of the items, their data and the rules by which they are asked and scored. Numbers are compared only where
    it is the same."""


class BenchmarkOffer(Request):
    """All benchmarks of a campaign that the calling agent runs, in place of what it offered before."""

    benchmarks: Annotated[list[OfferedBenchmark], Field(max_length=MAX_BENCHMARKS)]


class BenchmarkScore(Request):
    """What one benchmark gave of one adapter."""

    name: BenchmarkName
    items_sha256: Sha256
    """As it was offered."""
    n: Count
    """Items that count."""
    n_asked: Count
    """Items that were asked."""
    values: Values = {}
    """Its metrics by name, ``TASK.METRIC``; empty if it gave no number."""
    not_run: Annotated[Line, Field(max_length=MAX_REASON)] = ""
    """Why it gave no number; empty if it did."""


class BenchmarkView(Reply):
    """What one benchmark gave of one adapter, and who ran it."""

    name: BenchmarkName
    agent_name: str | None = None
    """The agent that ran it; null if it gave no number."""
    n: Count = 0
    """Items that count."""
    n_asked: Count = 0
    """Items that were asked."""
    n_published: Count = 0
    """Items of the whole published set."""
    items_sha256: Sha256 | None = None
    not_run: str = ""
    """Why there is no number; empty if there is one."""
