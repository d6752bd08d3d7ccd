"""What a round's adapter is computed from, by names in the database, and the computation itself.

The result is a function of what is named, so an engine that dies here is followed by one that does the same again and
gets the same bytes, and a closed round can be computed anew at any time while its updates are kept.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.tables import AdapterRow, BlobUseRow, CampaignRow, ParticipantRow, TaskRow
from coordinator.disk_full import translate_disk_full
from coordinator.engine.aggregation.aggregate import Aggregated, ClientUpdate, aggregate
from coordinator.engine.participants import numbered_clients
from coordinator.errors import NotFound
from coordinator.services import Services
from coordinator.storage.scratch import scratch_folder
from shared import algorithms, crash_points
from shared.campaign import CampaignSpec
from shared.states import BlobKind, TaskKind, TaskState
from shared.wire.adapters import Contribution
from shared.wire.base import BlobRef


@dataclass(frozen=True)
class Share:
    """One client's part in a round. q: its share of the whole campaign."""

    said: Contribution
    q: float


@dataclass(frozen=True)
class RoundInputs:
    """What a round is computed from.

    shares: in the order of client numbers. stored: those of the blobs it needs that still have their bytes, with their
    sizes; equal bytes of another kind may lie in another store.
    growth: the weight of all clients of the round before over that of this round's; below 1 where clients joined.
    """

    number: int
    spec: CampaignSpec
    parent: AdapterRow
    shares: list[Share]
    stored: Mapping[tuple[BlobKind, str], int]
    membership_scale: float

    def has(self, kind: BlobKind, sha256: str | None) -> bool:
        """Whether a blob still has its bytes; what there never was is not missing."""
        return sha256 is None or (kind, sha256) in self.stored

    @property
    def clients_without_state(self) -> list[str]:
        """The clients that lost their part of a state which is one thing with the server's: all start again."""
        return [share.said.agent_name for share in self.shares if share.said.client_state_lost]


async def of_open_round(session: AsyncSession, campaign: CampaignRow) -> RoundInputs:
    """The inputs of the round that is to be closed: the updates that were settled on."""
    number = campaign.rounds_closed + 1
    clients = await numbered_clients(session, campaign.id)
    query = select(TaskRow).where(
        TaskRow.campaign_id == campaign.id,
        TaskRow.kind == TaskKind.TRAIN,
        TaskRow.state == TaskState.DONE,
        TaskRow.counts_in == number,
    )
    by_agent = {client.agent_id: client for client in clients}
    tasks = [(by_agent[task.agent_id], task) for task in (await session.scalars(query)).all()]
    tasks.sort(key=lambda pair: pair[0].client_number or 0)
    late = campaign.spec.stragglers.staleness_exponent
    weights = [
        _weight(campaign.spec, client) * (1 + number - (task.round or number)) ** -late for client, task in tasks
    ]
    total = sum(weights)
    said = [
        _contribution(client, task, number, weight / total)
        for (client, task), weight in zip(tasks, weights, strict=True)
    ]
    return await _inputs(session, campaign, number, said, clients)


async def of_closed_round(session: AsyncSession, campaign: CampaignRow, adapter: AdapterRow) -> RoundInputs:
    """The inputs of the round that made an adapter, as its lineage says."""
    said = [Contribution.model_validate(each) for each in adapter.contributions]
    return await _inputs(session, campaign, adapter.number, said, await numbered_clients(session, campaign.id))


@asynccontextmanager
async def computed(services: Services, inputs: RoundInputs, *, measures_gap: bool) -> AsyncIterator[Aggregated]:
    """Aggregate; the files that come out are there for the length of the block.

    Raises CorruptBlob, NotFound, StorageFull, and AdapterError where the sum of finite updates is not finite.
    """
    algorithm = algorithms.find(inputs.spec.algorithm.name)
    params = algorithm.params.model_validate(inputs.spec.algorithm.params)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(scratch_folder(services.storage.scratch))

        async def fetch(kind: BlobKind, sha256: str | None) -> Path | None:
            if sha256 is None:
                return None
            if not inputs.has(kind, sha256):
                raise NotFound("blob", sha256)
            ref = BlobRef(sha256=sha256, n_bytes=inputs.stored[kind, sha256])
            return await stack.enter_async_context(
                services.storage.store_of(kind).as_file(ref, services.storage.scratch)
            )

        updates = []
        for share in inputs.shares:
            delta = await fetch(BlobKind.DELTA, share.said.update_sha256)
            extras = await fetch(BlobKind.EXTRAS, share.said.extras_sha256)
            assert delta is not None
            updates.append(ClientUpdate(share.said.client_number, share.said.weight, share.q, delta, extras))
        parent = await fetch(BlobKind.ADAPTER, inputs.parent.sha256)
        assert parent is not None
        state = await fetch(BlobKind.SERVER_STATE, inputs.parent.state_sha256)
        crash_points.reach("aggregation: begun")
        work = partial(
            aggregate,
            algorithm,
            params,
            parent,
            state,
            updates,
            folder,
            first=inputs.number == 1 or (bool(algorithm.server.state) and state is None),
            lora=inputs.spec.lora,
            membership_scale=inputs.membership_scale,
            measures_gap=measures_gap,
        )
        with translate_disk_full():
            made = await asyncio.get_running_loop().run_in_executor(services.aggregations, work)
        crash_points.reach("aggregation: done")
        yield replace(made, state=None, broadcast=None) if inputs.clients_without_state else made


def _weight(spec: CampaignSpec, client: ParticipantRow) -> int:
    """How much a client's update counts before it is normalised: by its rows, capped, or 1."""
    n_examples = client.n_train or 0
    if spec.weighting.by == "uniform":
        return 1
    return min(n_examples, spec.weighting.max_examples) if spec.weighting.max_examples else n_examples


def _contribution(client: ParticipantRow, task: TaskRow, number: int, weight: float) -> Contribution:
    assert task.result is not None
    assert task.round is not None
    assert client.client_number is not None
    return Contribution(
        client_number=client.client_number,
        agent_name=client.agent_name,
        update_sha256=task.result["delta"],
        extras_sha256=task.result["extras"],
        n_examples=client.n_train or 0,
        weight=weight,
        client_state_lost=task.result["client_state_lost"],
        staleness=number - task.round,
    )


def _files_of(share: Contribution) -> tuple[str | None, ...]:
    return share.update_sha256, share.extras_sha256


async def _inputs(
    session: AsyncSession,
    campaign: CampaignRow,
    number: int,
    said: Sequence[Contribution],
    clients: Sequence[ParticipantRow],
) -> RoundInputs:
    spec = campaign.spec
    parent = await session.get_one(AdapterRow, (campaign.id, number - 1))
    wanted = {parent.sha256, parent.state_sha256, *(digest for each in said for digest in _files_of(each))}
    uses = await session.scalars(select(BlobUseRow).where(BlobUseRow.sha256.in_(wanted), BlobUseRow.stored))

    def weight_in(round_number: int) -> int:
        return sum(_weight(spec, client) for client in clients if (client.joined_round or 1) <= round_number)

    of_client = {client.client_number: _weight(spec, client) for client in clients}
    return RoundInputs(
        number=number,
        spec=spec,
        parent=parent,
        shares=[Share(each, of_client[each.client_number] / weight_in(number)) for each in said],
        stored={(use.kind, use.sha256): use.n_bytes for use in uses.all() if use.campaign_id == campaign.id},
        membership_scale=weight_in(number - 1) / weight_in(number) if number > 1 else 1.0,
    )
