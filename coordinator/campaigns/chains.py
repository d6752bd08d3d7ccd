"""Chains: a campaign that starts from another campaign's adapter.

The transaction that creates the campaign finds the adapter, checks that it fits, and records its campaign, number and
digest with adapter 0. Later the names may refer to others, and the source may release the adapter or be rolled back.
"""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.ids import new_id
from coordinator.database.tables import AdapterRow, BlobUseRow, CampaignRow
from coordinator.errors import Invalid, NotFound
from coordinator.events.log import record
from coordinator.lifecycle import lock_campaign
from coordinator.storage.storage import Storage
from shared.adapters.files import AdapterError, Contract
from shared.adapters.lora import trained
from shared.campaign.spec import CampaignSpec
from shared.events import EventType
from shared.metrics import HELD_OUT_LOSS
from shared.states import BlobKind
from shared.text.ranges import in_ranges
from shared.wire.adapters import Origin

_FIELD = "start_from"

_MAY_DIFFER = frozenset({"base.cpu_dtype", "lora.dropout"})
"""Fields of the sections compared in a chain that do not affect the adapter, so may differ."""


async def start_from_another(session: AsyncSession, storage: Storage, campaign: CampaignRow, now: datetime) -> None:
    """Make the adapter that a new campaign's file names its adapter 0, put its digest into the campaign's
    specification, and copy the contract and base model.

    Raises Invalid if the adapter does not exist, is no longer stored, does not fit, or has another digest than the
    campaign's file says.

    Args:
        session: of the transaction that creates the campaign.
        storage: where the adapter is.
        campaign: the new one.
        now: the time of its creation.
    """
    spec = campaign.spec
    assert spec.start_from is not None
    named, _, which = spec.start_from.rpartition("/")
    # locked, so that it cannot be rolled back meanwhile
    source = await lock_campaign(session, await _find(session, named, campaign.id))
    adapter = await _adapter(session, source, which)
    if spec.start_sha256 not in (None, adapter.sha256):
        actual = f"adapter {adapter.number} of campaign {source.name} has {adapter.sha256}"
        raise Invalid(("start_sha256", f"{actual}; correct it, or leave it out"))
    differing = list(_differences(spec, source.spec))
    if differing:
        origin = f"in campaign {source.name}, whose adapter it starts from"
        raise Invalid(*((field, f"it is {own} here and {other} {origin}") for field, own, other in differing))
    try:
        await storage.store_of(BlobKind.ADAPTER).pin(session, adapter.sha256)
    except NotFound as error:
        raise Invalid((_FIELD, await _not_stored(session, source, adapter.number))) from error
    assert source.contract is not None  # the source has an adapter
    try:
        spec.algorithm.server_half().check_adapter(trained(Contract.from_json(source.contract), spec.lora))
    except AdapterError as error:
        raise Invalid(("algorithm", f"{spec.algorithm.name} cannot aggregate this adapter: {error}")) from error
    campaign.contract, campaign.fingerprint = source.contract, source.fingerprint
    campaign.spec_json = campaign.spec_json | {"start_sha256": adapter.sha256}
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
    facts = {"campaign": source.name, "campaign_id": source.id, "adapter": adapter.number}
    record(session, campaign, now, EventType.CAMPAIGN_STARTS_FROM, **facts, adapter_sha256=adapter.sha256)


async def origin_of(session: AsyncSession, campaign_id: str) -> Origin | None:
    """The adapter of another campaign that a campaign started from. None if its adapter 0 is its own."""
    query = (
        select(AdapterRow, CampaignRow)
        .join(CampaignRow, CampaignRow.id == AdapterRow.origin_campaign_id)
        .where(AdapterRow.campaign_id == campaign_id, AdapterRow.number == 0)
    )
    row = (await session.execute(query)).first()
    if row is None:
        return None
    adapter, source = row
    return Origin(
        campaign_id=source.id,
        campaign_name=source.name,
        kind=source.spec.kind,
        adapter_number=adapter.origin_number,
        sha256=adapter.sha256,
    )


async def origins_of(session: AsyncSession, campaign_id: str) -> list[Origin]:
    """The origin of a campaign, the origin of that campaign, and so on."""
    origins: list[Origin] = []
    while (origin := await origin_of(session, campaign_id)) is not None:
        origins.append(origin)
        campaign_id = origin.campaign_id
    return origins


async def _find(session: AsyncSession, named: str, own_id: str) -> str:
    """Find a campaign by its id, otherwise the newest with that name. Returns its id. Raises Invalid."""
    others = select(CampaignRow.id).where(CampaignRow.id != own_id)  # a campaign may have its predecessor's name
    campaign_id = await session.scalar(others.where(CampaignRow.id == named))
    if campaign_id is None:
        newest = others.where(CampaignRow.name == named).order_by(CampaignRow.id.desc()).limit(1)
        campaign_id = await session.scalar(newest)
    if campaign_id is None:
        raise Invalid((_FIELD, f"there is no campaign with the id or name {named}"))
    return campaign_id


async def _adapter(session: AsyncSession, source: CampaignRow, which: str) -> AdapterRow:
    """Find an adapter of a campaign by its number, or as ``final`` or ``best``. Raises Invalid."""
    numbers = {"final": source.final_adapter, "best": source.best_adapter}
    number = numbers[which] if which in numbers else int(which)
    available = (
        f"its adapters are 0 to {source.rounds_closed}" if source.contract is not None else "it has no adapter yet"
    )
    if number is None and which == "final":
        problem = f"campaign {source.name} is {source.state} and has no final adapter"
        raise Invalid((_FIELD, f"{problem}; wait until it is completed, or name an adapter by its number: {available}"))
    if number is None:
        by = source.spec.evaluation.best
        measured = "been evaluated" if by == HELD_OUT_LOSS else f"been evaluated by {by}"
        problem = f"no adapter of campaign {source.name} has {measured} yet, so none is its best"
        raise Invalid((_FIELD, f"{problem}; wait for that, or name an adapter by its number: {available}"))
    adapter = await session.get(AdapterRow, (source.id, number))
    if adapter is None:
        raise Invalid((_FIELD, f"campaign {source.name} has no adapter {number}; {available}"))
    return adapter


def _differences(spec: CampaignSpec, other: CampaignSpec) -> Iterator[tuple[str, str, str]]:
    """Fields of base model and adapter that differ between two campaigns, with both values as text."""
    for name in ("base", "lora"):
        section = getattr(spec, name)
        for field in type(section).model_fields:
            own_value, other_value = _plain(getattr(section, field)), _plain(getattr(getattr(other, name), field))
            if f"{name}.{field}" not in _MAY_DIFFER and own_value != other_value:
                yield f"{name}.{field}", own_value, other_value


def _plain(value: object) -> str:
    """A value as it is written in a campaign file."""
    match value:
        case list():  # names, whose order has no meaning
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
    stored = in_ranges(sorted((await session.scalars(query)).all())) or "none"
    setting = f"retention.adapters: {source.spec.retention.adapters}"
    return f"adapter {number} of campaign {source.name} is no longer stored ({setting}); still stored: {stored}"
