"""Recomputes closed rounds from their stored updates, and compares the digests with the recorded ones."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.tables import AdapterRow, BlobUseRow, CampaignRow
from coordinator.engine.aggregation.aggregate import Aggregated
from coordinator.engine.aggregation.inputs import RoundInputs, aggregated, load_closed_round
from coordinator.errors import CorruptBlob, NotFound
from coordinator.services import Services
from shared.adapters.files import AdapterError
from shared.digest import sha256_file
from shared.states import BlobKind
from shared.wire.base import BlobRef
from shared.wire.verification import Outcome, RoundVerification


async def verify_round(services: Services, campaign_id: str, number: int) -> RoundVerification:
    """Verify a closed round, or with 0 adapter 0: its lineage, its stored bytes, and, if its inputs are stored, the
    aggregation itself. Changes nothing. Raises NotFound."""
    found = await _verify_round(services, campaign_id, number)
    if found.outcome is Outcome.CORRUPT:  # perhaps released after the database was read
        found = await _verify_round(services, campaign_id, number)
    return found


async def _verify_round(services: Services, campaign_id: str, number: int) -> RoundVerification:
    async with services.database.read() as session:
        campaign = await session.get(CampaignRow, campaign_id)
        if campaign is None:
            raise NotFound("campaign", campaign_id)
        adapter = await session.get(AdapterRow, (campaign_id, number))
        if adapter is None:
            raise NotFound("round", number)
        inputs = await load_closed_round(session, campaign, adapter) if number > 0 else None
        stored = await _stored_of(session, campaign_id, number)

    def result(outcome: Outcome, reason: str | None = None, computed_sha256: str | None = None) -> RoundVerification:
        return RoundVerification(
            round=number,
            outcome=outcome,
            adapter_sha256=adapter.sha256,
            computed_sha256=computed_sha256,
            reason=reason,
        )

    for kind, ref in stored.items():
        try:
            await services.storage.store_of(kind).check(ref)
        except CorruptBlob as error:
            return result(Outcome.CORRUPT, f"its {_in_words(kind)}: {error}")
        except NotFound:
            return result(Outcome.CORRUPT, f"its {_in_words(kind)} should be stored, and is gone")
        except OSError as error:
            return result(Outcome.CORRUPT, f"its {_in_words(kind)} cannot be read: {_os_reason(error)}")
    if inputs is None:
        return result(Outcome.VERIFIED) if stored else result(Outcome.NOT_KEPT, "the adapter is not stored")
    if adapter.parent_sha256 != inputs.parent.sha256:
        return result(Outcome.DIFFERS, f"its parent {adapter.parent_sha256} is not the adapter of round {number - 1}")
    missing = _missing(inputs)
    if missing is not None:
        return result(Outcome.NOT_KEPT, missing)
    try:
        async with aggregated(services, inputs, as_stored=True) as made:
            digests = await asyncio.to_thread(_digests, made)
    except (CorruptBlob, NotFound, AdapterError) as error:
        return result(Outcome.CORRUPT, f"its inputs: {error}")
    except OSError as error:  # a full disk is another error
        if error.filename is not None and Path(error.filename).is_relative_to(services.storage.scratch):
            raise  # the engine's own files, not the inputs
        return result(Outcome.CORRUPT, f"its inputs cannot be read: {_os_reason(error)}")
    recorded = {
        BlobKind.ADAPTER: adapter.sha256,
        BlobKind.SERVER_STATE: adapter.state_sha256,
        BlobKind.BROADCAST: adapter.broadcast_sha256,
    }
    differing = [_in_words(kind) for kind, sha256 in recorded.items() if digests.get(kind) != sha256]
    outcome = Outcome.DIFFERS if differing else Outcome.VERIFIED
    reason = f"recomputed, another {' and '.join(differing)} comes out" if differing else None
    return result(outcome, reason, digests[BlobKind.ADAPTER])


async def _stored_of(session: AsyncSession, campaign_id: str, number: int) -> Mapping[BlobKind, BlobRef]:
    """The outputs of a round that still have their bytes."""
    query = select(BlobUseRow).where(
        BlobUseRow.campaign_id == campaign_id,
        BlobUseRow.round == number,
        BlobUseRow.stored,
        BlobUseRow.kind.in_((BlobKind.ADAPTER, BlobKind.SERVER_STATE, BlobKind.BROADCAST)),
    )
    uses = (await session.scalars(query)).all()
    return {use.kind: BlobRef(sha256=use.sha256, n_bytes=use.n_bytes) for use in uses}


def _missing(inputs: RoundInputs) -> str | None:
    """Which input is no longer stored; None if all are."""
    gone = [
        share.contribution.agent_name
        for share in inputs.shares
        if not inputs.has(BlobKind.DELTA, share.contribution.update_sha256)
        or not inputs.has(BlobKind.EXTRAS, share.contribution.extras_sha256)
    ]
    if gone:
        return f"the updates of {', '.join(gone)} are not kept (retention.updates)"
    if not inputs.has(BlobKind.ADAPTER, inputs.parent.sha256):
        return "the adapter before it is not kept (retention.adapters)"
    if not inputs.has(BlobKind.SERVER_STATE, inputs.parent.state_sha256):
        return "the server's state before it is not kept (retention.server_state)"
    return None


def _digests(made: Aggregated) -> dict[BlobKind, str]:
    files = {BlobKind.ADAPTER: made.adapter, BlobKind.SERVER_STATE: made.state, BlobKind.BROADCAST: made.broadcast}
    return {kind: sha256_file(path) for kind, path in files.items() if path is not None}


def _os_reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _in_words(kind: BlobKind) -> str:
    return kind.value.replace("_", " ")
