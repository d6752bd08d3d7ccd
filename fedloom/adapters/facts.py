"""What the writer of an adapter's folder knows of the adapter: an operator more than an owner."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from fedloom.adapters.protection import Protection
from fedloom.measured import Measured, measured
from shared.campaign.spec import CampaignSpec
from shared.wire.adapters import AdapterView, Contribution, Origin
from shared.wire.base import BlobRef
from shared.wire.benchmarks import BenchmarkView
from shared.wire.campaigns import CampaignDetail
from shared.wire.tasks.results import Fingerprint


@dataclass(frozen=True)
class AdapterFacts:
    """An adapter, and the campaign that made it.

    Args:
        campaign_id: the campaign.
        spec: its specification, with its name.
        number: the adapter's number in it.
        blob: the weights.
        created_at: when the adapter was made.
        parent_sha256: digest of the adapter that its round started from; None for adapter 0.
        fingerprint: of the base model; None if it is not known.
        protection: how many took part; None if the writer does not know.
        metrics: of held-out rows and of benchmarks, which are published with the folder.
        benchmarks: where each benchmark ran and on how much; empty if none did.
        chosen_by: the metric by which it is the campaign's best adapter; None if it is not, or if that is not known.
        n_clients: how many clients' metrics those means are over; None if there are none.
        of_clients: how many clients the campaign had then; None if there are none.
        contributions: whose updates are in it; empty if the writer does not know.
        origins: the adapter that the campaign started from, the one before it, and so on, as far as they are known.
    """

    campaign_id: str
    spec: CampaignSpec
    number: int
    blob: BlobRef
    created_at: datetime
    parent_sha256: str | None
    fingerprint: Fingerprint | None
    protection: Protection | None = None
    metrics: Sequence[Measured] = ()
    benchmarks: Sequence[BenchmarkView] = ()
    chosen_by: str | None = None
    n_clients: int | None = None
    of_clients: int | None = None
    contributions: Sequence[Contribution] = ()
    origins: Sequence[Origin] = ()

    @classmethod
    def of(cls, campaign: CampaignDetail, adapter: AdapterView, protection: Protection) -> Self:
        """The facts that an operator reads."""
        return cls(
            campaign_id=campaign.id,
            spec=campaign.spec,
            number=adapter.number,
            blob=adapter.blob,
            created_at=adapter.created_at,
            parent_sha256=adapter.parent_sha256,
            fingerprint=campaign.fingerprint,
            protection=protection,
            metrics=measured(campaign, adapter.metrics),
            benchmarks=adapter.benchmarks,
            chosen_by=campaign.spec.evaluation.best if adapter.number == campaign.best_adapter else None,
            n_clients=adapter.n_clients,
            of_clients=adapter.of_clients,
            contributions=adapter.contributions,
            origins=campaign.origins,
        )
