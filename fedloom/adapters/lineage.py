"""``fedloom.json``: where an adapter came from, for programs. Written beside the weights that it speaks of."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from shared.campaign import CampaignSpec
from shared.wire.adapters import AdapterView, Origin
from shared.wire.base import Sha256
from shared.wire.campaigns import CampaignDetail
from shared.wire.jobs import Fingerprint

LINEAGE_FILE = "fedloom.json"


class Lineage(BaseModel):
    """The campaign that made an adapter, and which of its adapters this is.

    format: rises when older programs could not make sense of the file. sha256: of the weights. held_out_loss: nats a
    token, None where it was not evaluated. fingerprint: of the base model that the adapter was trained on, None where
    the coordinator did not tell. origins: the adapter of another campaign that this one started from, the one which
    that campaign started from, and so on.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal[1] = 1
    campaign_id: str
    campaign_name: str
    spec: CampaignSpec
    adapter_number: int
    sha256: Sha256
    held_out_loss: float | None
    fingerprint: Fingerprint | None
    origins: list[Origin] = []

    @classmethod
    def of(cls, campaign: CampaignDetail, adapter: AdapterView) -> Self:
        return cls(
            campaign_id=campaign.id,
            campaign_name=campaign.name,
            spec=campaign.spec,
            adapter_number=adapter.number,
            sha256=adapter.blob.sha256,
            held_out_loss=adapter.held_out_loss,
            fingerprint=campaign.fingerprint,
            origins=campaign.origins,
        )
