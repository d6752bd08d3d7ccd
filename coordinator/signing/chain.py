"""The chain of statements of a campaign. Each is appended in the transaction that makes it true.

They are signed when they are read: by one key a text has one signature, so there is nothing to store.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.tables import CampaignRow, StatementRow
from shared.signing.statements import (
    FIRST,
    AdapterSigned,
    HistorySigned,
    RosterSigned,
    SpecificationSigned,
    Statement,
    digest_of,
    text_of,
)


def say_specification(session: AsyncSession, campaign: CampaignRow) -> None:
    """State the campaign's specification, as the first statement of it."""
    _append(session, campaign, SpecificationSigned, spec_sha256=campaign.spec_sha256)


def say_adapter(
    session: AsyncSession, campaign: CampaignRow, number: int, sha256: str, broadcast_sha256: str | None = None
) -> None:
    """State a global adapter.

    Args:
        session: of the transaction that records it.
        campaign: the campaign, locked.
        number: the adapter's.
        sha256: its digest.
        broadcast_sha256: the digest of the algorithm's broadcast beside it.
    """
    facts = {"adapter": number, "sha256": sha256, "broadcast": broadcast_sha256}
    _append(session, campaign, AdapterSigned, **facts)


def say_roster(session: AsyncSession, campaign: CampaignRow, round_number: int, agents: Iterable[str]) -> None:
    """State who takes part in a round, anew whenever that changes."""
    _append(session, campaign, RosterSigned, round=round_number, agents=sorted(agents))


def say_history(session: AsyncSession, campaign: CampaignRow) -> None:
    """State that a new history of the campaign has begun, with its adapters up to now."""
    adapter = campaign.rounds_closed if campaign.contract is not None else None
    _append(session, campaign, HistorySigned, adapter=adapter)


def _append(session: AsyncSession, campaign: CampaignRow, kind: type[Statement], **facts: Any) -> None:
    number = campaign.n_statements
    statement = kind(
        campaign_id=campaign.id,
        number=number,
        previous=campaign.last_statement or FIRST,
        history=campaign.history,
        **facts,
    )
    text = text_of(statement)
    session.add(StatementRow(campaign_id=campaign.id, number=number, text=text))
    campaign.n_statements, campaign.last_statement = number + 1, digest_of(text)
