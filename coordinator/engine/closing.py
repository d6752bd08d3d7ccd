"""Closes a round: gathers its updates, aggregates them outside of any transaction, and writes down what came out.

The result is a function of what the database names, so an engine that dies here is followed by one that does the same
again and gets the same bytes.
"""

import asyncio
import math
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle
from coordinator.clock import new_id
from coordinator.deps import Services
from coordinator.engine import rounds
from coordinator.engine.aggregate import Aggregated, ClientUpdate, aggregate
from coordinator.engine.evaluation import add_evaluations, add_metric
from coordinator.engine.step import Step
from coordinator.errors import NotFound
from coordinator.tables import (
    AdapterRow,
    BlobRow,
    BlobUseRow,
    CampaignRow,
    MetricRow,
    ParticipantRow,
    RoundRow,
    TaskRow,
)
from shared import algorithms, crash_points
from shared.digest import sha256_file
from shared.states import BlobKind, CampaignState, RoundState, TaskKind, TaskState
from shared.wire.adapters import Contribution
from shared.wire.base import BlobRef


@dataclass(frozen=True)
class Share:
    """One client's part in a round. q: its share of the whole campaign."""

    said: Contribution
    q: float


@dataclass(frozen=True)
class ClosedRound:
    """A round's outcome, stored and ready to be written down. numbers: metrics of the whole round, all finite."""

    number: int
    parent_sha256: str
    shares: list[Share]
    blobs: dict[BlobKind, BlobRef]
    numbers: dict[str, float]


async def aggregate_round(at: Services, campaign_id: str) -> ClosedRound:
    """Aggregate the current round's updates and store what comes out.

    Raises CorruptBlob, NotFound, StorageFull, and AdapterError where the sum of finite updates is not finite.
    """
    async with at.database.read() as session:
        campaign = await session.get_one(CampaignRow, campaign_id)
        number = campaign.rounds_closed + 1
        parent = await session.get_one(AdapterRow, (campaign_id, number - 1))
        shares = await _shares(session, campaign, number)
        uses = await session.scalars(select(BlobUseRow).where(BlobUseRow.campaign_id == campaign_id, BlobUseRow.stored))
        sizes = {use.sha256: use.n_bytes for use in uses.all()}
    spec = campaign.spec
    algorithm = algorithms.find(spec.algorithm.name)
    params = algorithm.params.model_validate(spec.algorithm.params)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=at.storage.scratch)))

        async def fetch(kind: BlobKind, sha256: str | None) -> Path | None:
            if sha256 is None:
                return None
            ref = BlobRef(sha256=sha256, n_bytes=sizes[sha256])
            return await stack.enter_async_context(at.storage.store_of(kind).as_file(ref, at.storage.scratch))

        updates = []
        for share in shares:
            delta = await fetch(BlobKind.DELTA, share.said.update_sha256)
            extras = await fetch(BlobKind.EXTRAS, share.said.extras_sha256)
            assert delta is not None
            updates.append(ClientUpdate(share.said.client_number, share.said.weight, share.q, delta, extras))
        parent_path = await fetch(BlobKind.ADAPTER, parent.sha256)
        assert parent_path is not None
        state = await fetch(BlobKind.SERVER_STATE, parent.state_sha256)
        crash_points.reach("aggregation: begun")
        first = number == 1 or (bool(algorithm.server.state) and state is None)
        made = await asyncio.to_thread(
            aggregate, algorithm, params, parent_path, state, updates, folder, first=first, lora=spec.lora
        )
        crash_points.reach("aggregation: done")
        if _who_lost(shares):
            made = replace(made, state=None, broadcast=None)
        numbers = {
            "update_norm": made.update_norm,
            "factor_gap": made.factors.gap,
            "factor_gap_relative": made.factors.relative,
        }
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}  # no JSON holds another
        return ClosedRound(number, parent.sha256, shares, await _store(at, made), finite)


async def write_down(step: Step, closed: ClosedRound) -> bool:
    """Close the round, name the new global adapter and its lineage, and open the next round: one transaction.

    Does nothing, and returns False, where the campaign was paused or cancelled, or the round closed, in the meantime.
    (Where it was rolled back, the engine has lost its claim, and does not come here.) Raises NotFound where equal bytes
    of another campaign were let go of just now, and took ours with them.
    """
    campaign = step.campaign
    round_row = await step.session.get(RoundRow, (campaign.id, closed.number))
    if (
        campaign.state is not CampaignState.RUNNING
        or round_row is None
        or round_row.state is not RoundState.AGGREGATING
    ):
        return False
    await _hold_blobs(step.session, closed)
    for kind, ref in closed.blobs.items():
        step.session.add(
            BlobUseRow(
                id=new_id(step.now),
                campaign_id=campaign.id,
                kind=kind,
                round=closed.number,
                sha256=ref.sha256,
                n_bytes=ref.n_bytes,
            )
        )
    adapter, broadcast = closed.blobs[BlobKind.ADAPTER], closed.blobs.get(BlobKind.BROADCAST)
    state = closed.blobs.get(BlobKind.SERVER_STATE)
    step.session.add(
        AdapterRow(
            campaign_id=campaign.id,
            number=closed.number,
            sha256=adapter.sha256,
            n_bytes=adapter.n_bytes,
            broadcast_sha256=broadcast.sha256 if broadcast else None,
            broadcast_bytes=broadcast.n_bytes if broadcast else None,
            state_sha256=state.sha256 if state else None,
            parent_sha256=closed.parent_sha256,
            contributions=[share.said.model_dump() for share in closed.shares],
            created_at=step.now,
        )
    )
    await lifecycle.move(step.session, round_row, RoundState.CLOSED, closed_at=step.now)
    campaign.rounds_closed = closed.number
    for name, value in closed.numbers.items():
        add_metric(step, closed.number, name, value)
    await _mean_train_loss(step, closed)
    names = [share.said.agent_name for share in closed.shares]
    await step.record("round-closed", round=closed.number, adapter=adapter.sha256, contributors=names)
    await _remember_counted(step, closed)
    if step.spec.evaluates(closed.number):
        await add_evaluations(step, closed.number)
    if closed.number == step.spec.rounds:
        await step.move(CampaignState.FINISHING)
        await rounds.finish(step)
    else:
        await rounds.run(step)
    return True


async def _hold_blobs(session: AsyncSession, closed: ClosedRound) -> None:
    """Lock the new blobs until they count as used, against letting go of them. Raises NotFound."""
    for ref in closed.blobs.values():
        query = select(BlobRow.sha256).where(BlobRow.sha256 == ref.sha256)
        if await session.scalar(query.with_for_update(read=True, key_share=True)) is None:
            raise NotFound("blob", ref.sha256)


async def _shares(session: AsyncSession, campaign: CampaignRow, number: int) -> list[Share]:
    """Who contributed to a round, in the order of client numbers, with p_k and q_k."""
    weighting = campaign.spec.weighting

    def weight(participant: ParticipantRow) -> int:
        n_examples = participant.n_train or 0
        if weighting.by == "uniform":
            return 1
        return min(n_examples, weighting.max_examples) if weighting.max_examples else n_examples

    everyone = await session.scalars(
        select(ParticipantRow).where(
            ParticipantRow.campaign_id == campaign.id, ParticipantRow.client_number.is_not(None)
        )
    )
    clients = {participant.agent_id: participant for participant in everyone.all()}
    done = await session.scalars(
        select(TaskRow).where(
            TaskRow.campaign_id == campaign.id,
            TaskRow.kind == TaskKind.TRAIN,
            TaskRow.round == number,
            TaskRow.state == TaskState.DONE,
        )
    )
    tasks = sorted(done.all(), key=lambda task: clients[task.agent_id].client_number or 0)
    in_round = sum(weight(clients[task.agent_id]) for task in tasks)
    in_campaign = sum(weight(participant) for participant in clients.values())
    shares = []
    for task in tasks:
        participant, result = clients[task.agent_id], task.result
        assert result is not None
        assert participant.client_number is not None
        said = Contribution(
            client_number=participant.client_number,
            agent_name=participant.agent_name,
            update_sha256=result["delta"],
            extras_sha256=result["extras"],
            n_examples=participant.n_train or 0,
            weight=weight(participant) / in_round,
            lost_state=result.get("lost_state", False),
        )
        shares.append(Share(said, weight(participant) / in_campaign))
    return shares


async def _store(at: Services, made: Aggregated) -> dict[BlobKind, BlobRef]:
    files = {BlobKind.ADAPTER: made.adapter, BlobKind.BROADCAST: made.broadcast, BlobKind.SERVER_STATE: made.state}
    refs: dict[BlobKind, BlobRef] = {}
    for kind, path in files.items():
        if path is not None:
            sha256 = await asyncio.to_thread(sha256_file, path)
            refs[kind] = BlobRef(sha256=sha256, n_bytes=path.stat().st_size)
            await at.storage.store_of(kind).put(path, refs[kind])
            crash_points.reach(f"aggregation: {kind} stored")
    return refs


def _who_lost(shares: list[Share]) -> list[str]:
    """The clients that lost their part of a state which is one thing with the server's, so that all start again."""
    return [share.said.agent_name for share in shares if share.said.lost_state]


async def _remember_counted(step: Step, closed: ClosedRound) -> None:
    """Write down which delta of each participant counted last: what a client keeps belongs to that one, and to no other
    that it trained. After a restart none does."""
    counted = {share.said.client_number: share.said.update_sha256 for share in closed.shares}
    lost = _who_lost(closed.shares)
    for participant in await step.participants():
        if lost:
            participant.counted_sha256 = None
        elif participant.client_number in counted:
            participant.counted_sha256 = counted[participant.client_number]
    if lost:
        await step.record("algorithm-restarted", round=closed.number, lost_state=lost)


async def _mean_train_loss(step: Step, closed: ClosedRound) -> None:
    """The clients' mean training losses, weighted as their updates are."""
    query = select(MetricRow).where(
        MetricRow.campaign_id == step.campaign.id,
        MetricRow.round == closed.number,
        MetricRow.name == "train_loss_mean",
        MetricRow.client_number.is_not(None),
    )
    losses = {metric.client_number: metric.value for metric in (await step.session.scalars(query)).all()}
    if all(share.said.client_number in losses for share in closed.shares):
        mean = sum(share.said.weight * losses[share.said.client_number] for share in closed.shares)
        add_metric(step, closed.number, "train_loss_mean", mean)
