"""``fedloom.json``: where an adapter came from, for programs. Written beside the weights that it describes."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from fedloom.adapters.facts import AdapterFacts
from fedloom.adapters.protection import Protection
from fedloom.measured import Measured
from shared.campaign.spec import CampaignSpec
from shared.wire.adapters import Origin
from shared.wire.base import Sha256
from shared.wire.benchmarks import BenchmarkView
from shared.wire.tasks.results import Fingerprint

LINEAGE_FILE = "fedloom.json"


class Lineage(BaseModel):
    """The campaign that made an adapter, and the adapter's number in it.

    Args:
        format: Version of the file; it rises when older programs can no longer read the file.
        sha256: Digest of the weights.
        metrics: The metrics of held-out rows and of benchmarks with their units. Empty if it was not evaluated.
        benchmarks: Where each benchmark ran and on how many items. Empty if none did.
        fingerprint: Of the base model that the adapter was trained on. None if the coordinator sent none.
        protection: How many took part in the rounds that made it. None if who wrote the file does not know.
        origins: The adapter that the campaign started from, the one that its campaign started from, and so on.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal[1] = 1
    campaign_id: str
    campaign_name: str
    spec: CampaignSpec
    adapter_number: int
    sha256: Sha256
    metrics: list[Measured]
    benchmarks: list[BenchmarkView] = []
    fingerprint: Fingerprint | None
    protection: Protection | None
    origins: list[Origin] = []

    @classmethod
    def of(cls, facts: AdapterFacts) -> Self:
        return cls(
            campaign_id=facts.campaign_id,
            campaign_name=facts.spec.name,
            spec=facts.spec,
            adapter_number=facts.number,
            sha256=facts.blob.sha256,
            metrics=list(facts.metrics),
            benchmarks=list(facts.benchmarks),
            fingerprint=facts.fingerprint,
            protection=facts.protection,
            origins=list(facts.origins),
        )
