"""Campaigns as an owner's record has them, made by hand."""

from datetime import UTC, datetime
from typing import Any

from agent.record.campaigns import Decision, KnownCampaign, Prepared, Terms
from shared.campaign.digest import spec_sha256
from shared.campaign.spec import CampaignSpec
from shared.wire.tasks.results import Fingerprint
from tests.agent.parts import FINGERPRINT, campaign_spec


def known_campaign(
    *,
    spec: CampaignSpec | None = None,
    name: str = "small",
    coordinator: str = "https://coordinator.example",
    participants: list[str] | None = None,
    n_participants: int | None = None,
    n_train: int | None = None,
    n_distinct: int = 1,
    n_held_out: int = 0,
    **changes: Any,
) -> KnownCampaign:
    """A campaign that waits; with *n_train* it is prepared. changes: of its specification."""
    named = participants or ["ada", "bob", "cyd"]
    now = datetime.now(UTC)
    terms = Terms(
        agent_id="a",
        created_on=now.date(),
        plain_client=True,
        mixes_ranks=False,
        participants=named,
        n_participants=len(named) if n_participants is None else n_participants,
    )
    prepared = None
    if n_train is not None:
        fingerprint = Fingerprint.model_validate(FINGERPRINT)
        prepared = Prepared(
            fingerprint=fingerprint,
            rank=2,
            n_train=n_train,
            n_held_out=n_held_out,
            n_distinct=n_distinct,
            n_distinct_held_out=n_held_out,
        )
    asked_for = campaign_spec(**changes)
    return KnownCampaign(
        id="c1",
        coordinator=coordinator,
        name=name,
        spec_sha256=spec_sha256(asked_for, terms.created_on),
        spec=spec or asked_for,
        terms=terms,
        asked_at=now,
        decision=Decision.WAITING,
        decided_by=None,
        decided_at=None,
        pool=None,
        prepared=prepared,
    )
