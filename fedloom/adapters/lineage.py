"""``fedloom.json``: where an adapter came from, for programs. Written beside the weights that it describes."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from fedloom.adapters.protection import Protection
from fedloom.measured import Measured, measured
from shared.campaign.spec import CampaignSpec
from shared.wire.adapters import AdapterView, Origin
from shared.wire.base import Sha256
from shared.wire.campaigns import CampaignDetail
from shared.wire.results import Fingerprint

LINEAGE_FILE = "fedloom.json"


class Lineage(BaseModel):
    """The campaign that made an adapter, and the adapter's number in it.

    Args:
        format: Version of the file; it rises when older programs can no longer read the file.
        sha256: Digest of the weights.
        metrics: The held-out metrics with their units. Empty if the adapter was not evaluated.
        fingerprint: Of the base model that the adapter was trained on. None if the coordinator sent none.
        protection: How many took part in the rounds that made it.
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
    fingerprint: Fingerprint | None
    protection: Protection
    origins: list[Origin] = []

    @classmethod
    def of(cls, campaign: CampaignDetail, adapter: AdapterView, protection: Protection) -> Self:
        return cls(
            campaign_id=campaign.id,
            campaign_name=campaign.name,
            spec=campaign.spec,
            adapter_number=adapter.number,
            sha256=adapter.blob.sha256,
            metrics=measured(campaign, adapter.metrics),
            fingerprint=campaign.fingerprint,
            protection=protection,
            origins=campaign.origins,
        )
