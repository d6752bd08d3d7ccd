"""Closes a round: aggregates its updates outside of any transaction, then records the result in one."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from coordinator import lifecycle
from coordinator.database.ids import new_id
from coordinator.database.objects import ByKey
from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import AdapterRow, BlobUseRow, CampaignRow, MetricRow
from coordinator.engine import rounds
from coordinator.engine.aggregation.aggregate import Aggregated
from coordinator.engine.aggregation.inputs import RoundInputs, aggregated, load_open_round
from coordinator.engine.campaign_tx import CampaignTx
from coordinator.engine.clients import stragglers
from coordinator.engine.evaluation import evaluating
from coordinator.engine.evaluation.metric_rows import add_metric
from coordinator.services import Services
from coordinator.signing import chain
from coordinator.storage.storage import Storage
from shared import crash_points, kinds
from shared.digest import sha256_file
from shared.events import EventType
from shared.metrics import Origin, Weight
from shared.states import BlobKind, CampaignState, RoundState
from shared.wire.adapters import Contribution
from shared.wire.base import BlobRef

_CAMPAIGN = ByKey(CampaignRow)
_REPORTED = Prepared(
    select(MetricRow.name, MetricRow.client_number, MetricRow.value).where(
        MetricRow.campaign_id == given("campaign"),
        MetricRow.round == given("round"),
        MetricRow.client_number.is_not(None),
    )
)


@dataclass(frozen=True)
class AggregatedRound:
    """A round's result, stored but not yet recorded. numbers: metrics of the whole round, all finite."""

    inputs: RoundInputs
    blobs: dict[BlobKind, BlobRef]
    numbers: dict[str, float]

    @property
    def number(self) -> int:
        return self.inputs.number

    @property
    def contributions(self) -> list[Contribution]:
        return [share.contribution for share in self.inputs.shares]


async def aggregate_round(services: Services, campaign_id: str) -> AggregatedRound:
    """Aggregate the current round's updates and store the result. Raises the errors of ``inputs.aggregated``.

    The factor gap takes longer than the aggregation. It is measured where the adapter's quality is measured too.
    """
    async with services.database.read() as session:
        campaign = await _CAMPAIGN.get_one(session, campaign_id)
        inputs = await load_open_round(session, campaign)
    spec = inputs.spec
    # the last round is evaluated as the last of the plan, after an early end too
    number = spec.rounds if inputs.number == campaign.last_round else inputs.number
    measures_gap = spec.evaluates(number) or spec.benchmarks(number)
    async with aggregated(services, inputs, measures_gap=measures_gap) as result:
        numbers = {"update_norm": result.update_norm}
        if result.factor_gap is not None:
            numbers |= {"factor_gap": result.factor_gap.gap, "factor_gap_relative": result.factor_gap.relative}
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}  # JSON has no other numbers
        return AggregatedRound(inputs, await _store(services, result), finite)


async def close_round(tx: CampaignTx, storage: Storage, closed: AggregatedRound) -> bool:
    """Close the round, record the new global adapter with its lineage, and open the next round, in one transaction.

    Does nothing and returns False if meanwhile the campaign was paused or cancelled, or the round was closed. (After a
    rollback the engine has lost its claim, so this function is not called.) Raises NotFound if one of the new blobs was
    deleted meanwhile, because another campaign released the same bytes.
    """
    campaign = tx.campaign
    round_row = await tx.round(closed.number)
    if (
        campaign.state is not CampaignState.RUNNING
        or round_row is None
        or round_row.state is not RoundState.AGGREGATING
    ):
        return False
    # what is read comes first: each query stores the changes of objects before it
    await _pin(tx, storage, closed)
    reported = await _reported_metrics(tx, closed)
    await lifecycle.move(tx.session, round_row, RoundState.CLOSED, closed_at=tx.now)
    await _commit_updates(tx, closed)
    _add_adapter(tx, closed)
    campaign.rounds_closed = closed.number
    for name, value in closed.numbers.items():
        add_metric(tx, closed.number, name, value)
    _add_training_metrics(tx, closed, reported)
    names = [each.agent_name for each in closed.contributions]
    tx.record(
        EventType.ROUND_CLOSED,
        round=closed.number,
        adapter_sha256=closed.blobs[BlobKind.ADAPTER].sha256,
        contributors=names,
    )
    await _begin_anew(tx, closed)
    is_last = closed.number == campaign.last_round
    await evaluating.begin(tx, closed.number, is_last=is_last)
    if is_last:
        await tx.move(CampaignState.FINISHING)
        await rounds.finish(tx)
    else:
        await rounds.run(tx)
    return True


async def _pin(tx: CampaignTx, storage: Storage, closed: AggregatedRound) -> None:
    """Keep the round's blobs from being released until the transaction ends. Raises NotFound."""
    for kind, ref in closed.blobs.items():
        await storage.store_of(kind).pin(tx.session, ref.sha256)


def _add_adapter(tx: CampaignTx, closed: AggregatedRound) -> None:
    """Record the round's adapter with its lineage, and that the campaign uses the round's blobs."""
    for kind, ref in closed.blobs.items():
        tx.session.add(
            BlobUseRow(
                id=new_id(tx.now),
                campaign_id=tx.campaign.id,
                kind=kind,
                round=closed.number,
                sha256=ref.sha256,
                n_bytes=ref.n_bytes,
            )
        )
    adapter, broadcast = closed.blobs[BlobKind.ADAPTER], closed.blobs.get(BlobKind.BROADCAST)
    state = closed.blobs.get(BlobKind.SERVER_STATE)
    tx.session.add(
        AdapterRow(
            campaign_id=tx.campaign.id,
            number=closed.number,
            sha256=adapter.sha256,
            n_bytes=adapter.n_bytes,
            broadcast_sha256=broadcast.sha256 if broadcast else None,
            broadcast_bytes=broadcast.n_bytes if broadcast else None,
            state_sha256=state.sha256 if state else None,
            parent_sha256=closed.inputs.parent.sha256,
            contributions=[each.model_dump() for each in closed.contributions],
            created_at=tx.now,
        )
    )
    broadcast_sha256 = broadcast.sha256 if broadcast else None
    chain.say_adapter(tx.session, tx.campaign, closed.number, adapter.sha256, broadcast_sha256)


async def _store(services: Services, result: Aggregated) -> dict[BlobKind, BlobRef]:
    files = {
        BlobKind.ADAPTER: result.adapter,
        BlobKind.BROADCAST: result.broadcast,
        BlobKind.SERVER_STATE: result.state,
    }
    refs: dict[BlobKind, BlobRef] = {}
    hashed: dict[Path, BlobRef] = {}  # a file may be two blobs: SCAFFOLD broadcasts its state
    for kind, path in files.items():
        if path is None:
            continue
        if path not in hashed:
            sha256 = await asyncio.to_thread(sha256_file, path)
            hashed[path] = BlobRef(sha256=sha256, n_bytes=path.stat().st_size)
        refs[kind] = hashed[path]
        await services.storage.store_of(kind).put(path, refs[kind])
        if kind is not BlobKind.SERVER_STATE:  # which no client downloads
            services.storage.copies.adopt(path, refs[kind])
        crash_points.reach(f"aggregation: {kind} stored")
    return refs


async def _commit_updates(tx: CampaignTx, closed: AggregatedRound) -> None:
    """Record each contributor's delta as its committed update. Its client state belongs to that delta only.

    If a client lost its state, the algorithm restarts and no participant has a committed update. That is remembered of
    the client, since another loss of it restarts nothing.
    """
    shares = {each.client_number: each for each in closed.contributions}
    lost = closed.inputs.clients_without_state
    agents = [each.agent_id for each in closed.inputs.shares]
    for participant in await (tx.participants() if lost else tx.participants_of(agents)):
        share = shares.get(participant.client_number) if participant.client_number is not None else None
        if share is not None:
            participant.update_round, participant.update_weight = closed.number - share.staleness, share.weight
            if share.client_state_lost:
                participant.lost_state_in = closed.number
        if lost:
            participant.committed_update_sha256 = None
        elif share is not None:
            participant.committed_update_sha256 = share.update_sha256


async def _begin_anew(tx: CampaignTx, closed: AggregatedRound) -> None:
    """Restart the algorithm if a client lost its state: late updates go, which the state from before belongs to."""
    if lost := closed.inputs.clients_without_state:
        # a late update was trained with client state from before the restart
        await stragglers.discard_late_updates(tx, closed.number + 1)
        tx.record(EventType.ALGORITHM_RESTARTED, round=closed.number, agents=lost)


async def _reported_metrics(tx: CampaignTx, closed: AggregatedRound) -> dict[tuple[str, int, int], float]:
    """The clients' metrics of the trainings that count, by name, client number and round of the training."""
    values: dict[tuple[str, int, int], float] = {}
    for trained_in in {closed.number - each.staleness for each in closed.contributions}:
        for name, client, value in await _REPORTED.rows(tx.session, campaign=tx.campaign.id, round=trained_in):
            values[name, client, trained_in] = value
    return values


def _add_training_metrics(
    tx: CampaignTx, closed: AggregatedRound, values: Mapping[tuple[str, int, int], float]
) -> None:
    """Record the means of the clients' training metrics, weighted as their updates are.

    The mean is over the clients that report the metric: owners may withhold losses. values: what clients reported.
    """
    for metric in kinds.find(tx.spec.kind).metrics_of(Origin.TRAINING):
        if metric.weight is not Weight.UPDATE:
            continue
        reported = [
            (each.weight, values.get((metric.name, each.client_number, closed.number - each.staleness)))
            for each in closed.contributions
        ]
        known = [(weight, value) for weight, value in reported if value is not None]
        if known:
            add_metric(tx, closed.number, metric.name, metric.mean(known), (len(known), len(reported)))
