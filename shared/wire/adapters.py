"""Global adapters and their lineage."""

from datetime import datetime

from shared.campaign import TrainingKind
from shared.wire.base import BlobRef, Reply, Sha256


class Contribution(Reply):
    """One client's share in a global adapter: the digest of its update and the weight p_k that it had. lost_state: it
    had lost what it kept between rounds, so everybody starts again from the algorithm's initial state. staleness: how
    many rounds earlier than the adapter's own it was trained in; a late update's weight is reduced."""

    client_number: int
    agent_name: str
    update_sha256: str
    extras_sha256: str | None
    n_examples: int
    weight: float
    client_state_lost: bool = False
    staleness: int = 0


class Origin(Reply):
    """The adapter that a campaign started from: the campaign that made it, that one's kind of training, its number
    there, and its digest. Where that campaign was rolled back since, another adapter may have the number."""

    campaign_id: str
    campaign_name: str
    kind: TrainingKind
    adapter_number: int
    sha256: Sha256


class AdapterView(Reply):
    """A global adapter: where it came from, who contributed, and whether its bytes are still kept. origin: of adapter 0
    where it is another campaign's."""

    number: int
    blob: BlobRef
    stored: bool
    parent_sha256: str | None
    algorithm: str
    contributions: list[Contribution]
    created_at: datetime
    held_out_loss: float | None
    origin: Origin | None = None
