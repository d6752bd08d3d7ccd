"""Global adapters and their lineage."""

from datetime import datetime

from pydantic import FiniteFloat

from shared.bounds import Count
from shared.metrics import HELD_OUT_LOSS, MetricName
from shared.wire.base import BlobRef, Reply, Sha256
from shared.wire.benchmarks import BenchmarkView

AdapterMetrics = dict[MetricName, FiniteFloat]
"""Metrics of a global adapter by name: of a suite, more than one report may have."""


class Contribution(Reply):
    """One client's share in a global adapter."""

    client_number: int
    agent_name: str
    update_sha256: str
    """Digest of the delta."""
    extras_sha256: str | None
    """Digest of the algorithm's extras; null if it has none."""
    n_examples: int
    """The client's number of training rows, as it declared it."""
    weight: float
    """Weight p_k of the update. The weights of a round sum to 1."""
    client_state_lost: bool = False
    """The client had lost its client state, so the algorithm restarted from its initial state for all clients."""
    staleness: int = 0
    """Rounds by which the update was late. The weight of a late update is reduced."""
    trained_on: str | None = None
    """Kind of processor, number of threads, and versions of the libraries, as the client told them."""


class Origin(Reply):
    """The adapter of another campaign that a campaign started from.

    If that campaign was rolled back since, the number may now belong to another adapter; the digest decides.
    """

    campaign_id: str
    campaign_name: str
    kind: str
    """Kind of training of that campaign."""
    adapter_number: int
    """The adapter's number in that campaign."""
    sha256: Sha256


class AdapterView(Reply):
    """A global adapter and its lineage."""

    number: int
    blob: BlobRef
    stored: bool
    """Whether the bytes are still stored."""
    parent_sha256: str | None
    """Digest of the adapter that the round started from; null for adapter 0."""
    algorithm: str
    contributions: list[Contribution]
    created_at: datetime
    evaluating: bool = False
    """Whether evaluations of it are under way, so that ``metrics`` will follow."""
    metrics: AdapterMetrics
    """Metrics of origin ``evaluation``, averaged over the clients, and of origin ``benchmark``; empty if it was not
    evaluated."""
    benchmarks: list[BenchmarkView] = []
    """Which benchmarks ran on it, where and on how many items, in the order of the campaign file."""
    n_clients: int | None = None
    """How many clients' metrics those means are over; null if it was not evaluated."""
    of_clients: int | None = None
    """How many clients the campaign had then."""
    origin: Origin | None = None
    """Where adapter 0 comes from, if the campaign started from another campaign's adapter."""

    @property
    def held_out_loss(self) -> float | None:
        """The mean held-out loss; None if the adapter was not evaluated. The campaign's kind decides its unit."""
        return self.metrics.get(HELD_OUT_LOSS)


class OwnAdapter(Reply):
    """A global adapter of a campaign in which the calling agent was a client, without anything of other agents."""

    number: Count
    blob: BlobRef
    stored: bool
    """Whether the bytes are still stored."""
    created_at: datetime
    final: bool
    """Whether it is the result of the campaign, which has ended."""
    best: bool
    """Whether it is the best of those that are stored, by the campaign's ``evaluation.best``."""
