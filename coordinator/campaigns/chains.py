"""Chains: a campaign that starts from another's adapter. Which one it is, whether it fits, and what is written down.

It is written down with adapter 0, in the transaction that makes the campaign: its campaign, its number, its digest. So
names may change their meaning later, and the other campaign may let go of it or be rolled back.
"""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.ids import new_id
from coordinator.database.tables import AdapterRow, BlobUseRow, CampaignRow
from coordinator.errors import Invalid, NotFound, format_ranges
from coordinator.events.log import record
from coordinator.lifecycle import lock_campaign
from coordinator.storage.retention import pin
from shared.campaign import CampaignSpec
from shared.events import EventType
from shared.states import BlobKind
from shared.wire.adapters import Origin

_FIELD = "start_from"

_MAY_DIFFER = frozenset({"lora.dropout"})
"""Of the sections that two campaigns of a chain share, what does not belong to the adapter."""


async def start_from_another(session: AsyncSession, campaign: CampaignRow, now: datetime) -> None:
    """Give a new campaign the adapter that its file names as adapter 0, with its contract and its base model.

    Raises Invalid where there is no such adapter, its bytes are no longer stored, or it does not fit.
    """
    spec = campaign.spec
    assert spec.start_from is not None
    named, _, which = spec.start_from.rpartition("/")
    # locked, so that it is not rolled back meanwhile
    source = await lock_campaign(session, await _find(session, named, campaign.id))
    adapter = await _adapter(session, source, which)
    differing = list(_differences(spec, source.spec))
    if differing:
        of = f"in campaign {source.name}, whose adapter it starts from"
        raise Invalid(*((field, f"it is {here} here and {there} {of}") for field, here, there in differing))
    try:
        await pin(session, adapter.sha256)
    except NotFound as error:
        raise Invalid((_FIELD, await _not_stored(session, source, adapter.number))) from error
    campaign.contract, campaign.fingerprint = source.contract, source.fingerprint
    session.add(
        AdapterRow(
            campaign_id=campaign.id,
            number=0,
            sha256=adapter.sha256,
            n_bytes=adapter.n_bytes,
            contributions=[],
            created_at=now,
            origin_campaign_id=source.id,
            origin_number=adapter.number,
        )
    )
    session.add(
        BlobUseRow(
            id=new_id(now),
            campaign_id=campaign.id,
            kind=BlobKind.ADAPTER,
            round=0,
            sha256=adapter.sha256,
            n_bytes=adapter.n_bytes,
        )
    )
    said = {"campaign": source.name, "campaign_id": source.id, "adapter": adapter.number, "sha256": adapter.sha256}
    record(session, campaign, now, EventType.CAMPAIGN_STARTS_FROM, **said)


async def origin_of(session: AsyncSession, campaign_id: str) -> Origin | None:
    """The other campaign's adapter that a campaign started from; None where adapter 0 is its own."""
    query = (
        select(AdapterRow, CampaignRow)
        .join(CampaignRow, CampaignRow.id == AdapterRow.origin_campaign_id)
        .where(AdapterRow.campaign_id == campaign_id, AdapterRow.number == 0)
    )
    found = (await session.execute(query)).first()
    if found is None:
        return None
    adapter, source = found
    return Origin(
        campaign_id=source.id,
        campaign_name=source.name,
        kind=source.spec.kind,
        adapter_number=adapter.origin_number,
        sha256=adapter.sha256,
    )


async def origins_of(session: AsyncSession, campaign_id: str) -> list[Origin]:
    """What a campaign started from, what that one's campaign started from, and so on."""
    found: list[Origin] = []
    while (origin := await origin_of(session, campaign_id)) is not None:
        found.append(origin)
        campaign_id = origin.campaign_id
    return found


async def _find(session: AsyncSession, named: str, own_id: str) -> str:
    """The id of the campaign of that id, otherwise of the newest one of that name. Raises Invalid."""
    others = select(CampaignRow.id).where(CampaignRow.id != own_id)  # a campaign may be called as the one before it
    found = await session.scalar(others.where(CampaignRow.id == named))
    if found is None:
        newest = others.where(CampaignRow.name == named).order_by(CampaignRow.id.desc()).limit(1)
        found = await session.scalar(newest)
    if found is None:
        raise Invalid((_FIELD, f"there is no campaign {named}, neither by id nor by name"))
    return found


async def _adapter(session: AsyncSession, source: CampaignRow, which: str) -> AdapterRow:
    """An adapter of a campaign by its number, or as ``final`` or ``best``. Raises Invalid."""
    numbers = {"final": source.final_adapter, "best": source.best_adapter}
    number = numbers[which] if which in numbers else int(which)
    there = f"its adapters are 0 to {source.rounds_closed}" if source.contract is not None else "it has no adapter yet"
    if number is None and which == "final":
        what = f"campaign {source.name} is {source.state} and has no final adapter"
        raise Invalid((_FIELD, f"{what}; wait until it is completed, or name an adapter by its number: {there}"))
    if number is None:
        what = f"nothing of campaign {source.name} was evaluated yet, so no adapter is its best"
        raise Invalid((_FIELD, f"{what}; wait for that, or name an adapter by its number: {there}"))
    found = await session.get(AdapterRow, (source.id, number))
    if found is None:
        raise Invalid((_FIELD, f"campaign {source.name} has no adapter {number}; {there}"))
    return found


def _differences(spec: CampaignSpec, other: CampaignSpec) -> Iterator[tuple[str, str, str]]:
    """What of base model and adapter is not the same in two campaigns: field, and both values in words."""
    for name in ("base", "lora"):
        section = getattr(spec, name)
        for field in type(section).model_fields:
            here, there = getattr(section, field), getattr(getattr(other, name), field)
            if f"{name}.{field}" not in _MAY_DIFFER and _plain(here) != _plain(there):
                yield f"{name}.{field}", _plain(here), _plain(there)


def _plain(value: object) -> str:
    """A value as a campaign file has it."""
    match value:
        case list():  # of names, whose order means nothing
            return ", ".join(sorted(set(value)))
        case bool():
            return str(value).lower()
        case float():
            return repr(value).removesuffix(".0")
        case _:
            return "not set" if value is None else str(value)


async def _not_stored(session: AsyncSession, source: CampaignRow, number: int) -> str:
    query = select(BlobUseRow.round).where(
        BlobUseRow.campaign_id == source.id, BlobUseRow.kind == BlobKind.ADAPTER, BlobUseRow.stored
    )
    left = format_ranges(sorted((await session.scalars(query)).all()))
    kept = f"retention.adapters: {source.spec.retention.adapters}"
    return f"adapter {number} of campaign {source.name} is no longer stored ({kept}); still stored: {left}"
