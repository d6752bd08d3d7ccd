"""The inputs of a round's aggregation, as named in the database, and the aggregation itself.

The result is a function of the named inputs. If an engine dies here, the next one computes the same bytes, and a closed
round can be recomputed while its updates are stored.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.disk_full import translate_disk_full
from coordinator.database.objects import ByKey
from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import AdapterRow, BlobUseRow, CampaignRow, TaskRow
from coordinator.engine.aggregation.aggregate import Aggregated, aggregate
from coordinator.engine.aggregation.files import ClientUpdate
from coordinator.engine.participants import Client, numbered_clients
from coordinator.engine.weights import weight_of
from coordinator.errors import NotFound
from coordinator.services import Services
from coordinator.storage.scratch import scratch_folder
from shared import algorithms, crash_points
from shared.algorithms import RoundFacts
from shared.campaign.spec import CampaignSpec
from shared.states import BlobKind, TaskKind, TaskState
from shared.system.cores import n_cores
from shared.wire.adapters import Contribution
from shared.wire.base import BlobRef

_ADAPTER = ByKey(AdapterRow)
_COUNTED = Prepared(
    select(TaskRow.agent_id, TaskRow.round, TaskRow.result).where(
        TaskRow.campaign_id == given("campaign"),
        TaskRow.kind == TaskKind.TRAIN,
        TaskRow.state == TaskState.DONE,
        TaskRow.counts_in == given("counts_in"),
    )
)
"""The tasks whose updates a round aggregates."""


@dataclass(frozen=True)
class Share:
    """One client's part in a round. agent_id: whose. q: its weight among all clients of the campaign."""

    agent_id: str
    contribution: Contribution
    q: float


@dataclass(frozen=True)
class RoundInputs:
    """The inputs of a round's aggregation.

    Args:
        number: the round.
        spec: the campaign's.
        parent: the adapter that the round started from.
        shares: the contributions with their weights.
        stored: sizes of the needed blobs that are stored, by kind and digest: equal bytes of another kind may lie in
            another store.
        membership_scale: total weight of all clients in the previous round over that in this round; below 1 if clients
            joined.
    """

    number: int
    spec: CampaignSpec
    parent: AdapterRow
    shares: list[Share]
    stored: Mapping[tuple[BlobKind, str], int]
    membership_scale: float

    @property
    def blobs(self) -> Iterator[tuple[BlobKind, str | None]]:
        """The kinds and digests of what is read, the parent first. None: there is no such blob."""
        yield BlobKind.ADAPTER, self.parent.sha256
        yield BlobKind.SERVER_STATE, self.parent.state_sha256
        for share in self.shares:
            yield BlobKind.DELTA, share.contribution.update_sha256
            yield BlobKind.EXTRAS, share.contribution.extras_sha256

    def has(self, kind: BlobKind, sha256: str | None) -> bool:
        """Whether a blob is stored. True for None: there is no such blob to miss."""
        return sha256 is None or (kind, sha256) in self.stored

    def facts(self, *, first: bool) -> RoundFacts:
        """The round, as the server half may know it. first: whether the state is the initial one."""
        return RoundFacts(self.number, self.spec.training.seed, self.spec.lora.scale, first)

    @property
    def clients_without_state(self) -> list[str]:
        """Names of clients that lost their local state.

        It must match the server's, so one loss restarts the algorithm for all.
        """
        return [share.contribution.agent_name for share in self.shares if share.contribution.client_state_lost]


async def load_open_round(session: AsyncSession, campaign: CampaignRow) -> RoundInputs:
    """Load the inputs of the round that is being aggregated, whose set of updates is fixed."""
    number = campaign.rounds_closed + 1
    clients = await numbered_clients(session, campaign.id)
    by_agent = {client.agent_id: client for client in clients}
    counted = [
        (by_agent[agent_id], number - trained_in, result)
        for agent_id, trained_in, result in await _COUNTED.rows(session, campaign=campaign.id, counts_in=number)
    ]
    counted.sort(key=lambda each: each[0].client_number)
    weights = [
        weight_of(campaign.spec, client) * _staleness_discount(campaign.spec, staleness)
        for client, staleness, _ in counted
    ]
    total = sum(weights)
    contributions = [
        _contribution(client, staleness, result, weight / total)
        for (client, staleness, result), weight in zip(counted, weights, strict=True)
    ]
    return await _load(session, campaign, number, contributions, clients)


async def load_closed_round(session: AsyncSession, campaign: CampaignRow, adapter: AdapterRow) -> RoundInputs:
    """Load the inputs of the round that made an adapter, from the adapter's lineage."""
    contributions = [Contribution.model_validate(each) for each in adapter.contributions]
    return await _load(session, campaign, adapter.number, contributions, await numbered_clients(session, campaign.id))


@asynccontextmanager
async def aggregated(
    services: Services, inputs: RoundInputs, *, measures_gap: bool = False, as_stored: bool = False
) -> AsyncIterator[Aggregated]:
    """Aggregate a round. The resulting files exist while the block runs.

    as_stored: read every input from its store, where otherwise this process's own copy of an adapter will do.

    Raises CorruptBlob, NotFound, StorageFull, and AdapterError if the sum of finite updates is not finite.
    """
    algorithm = algorithms.find(inputs.spec.algorithm.name)
    params = algorithm.params.model_validate(inputs.spec.algorithm.params)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(scratch_folder(services.storage.scratch))
        paths = await _fetched(services, inputs, stack, as_stored=as_stored)
        updates = [
            ClientUpdate(
                each.client_number,
                each.weight,
                share.q,
                paths[BlobKind.DELTA, each.update_sha256],
                paths[BlobKind.EXTRAS, each.extras_sha256] if each.extras_sha256 is not None else None,
            )
            for share in inputs.shares
            for each in (share.contribution,)
        ]
        parent = paths[BlobKind.ADAPTER, inputs.parent.sha256]
        state = paths.get((BlobKind.SERVER_STATE, inputs.parent.state_sha256 or ""))
        crash_points.reach("aggregation: begun")
        work = partial(
            aggregate,
            algorithm,
            params,
            parent,
            state,
            updates,
            folder,
            facts=inputs.facts(first=inputs.number == 1 or (bool(algorithm.server.state) and state is None)),
            lora=inputs.spec.lora,
            membership_scale=inputs.membership_scale,
            measures_gap=measures_gap,
            n_threads=services.settings.engine.aggregation_threads or min(4, n_cores()),
        )
        with translate_disk_full():
            result = await asyncio.get_running_loop().run_in_executor(services.aggregations, work)
        crash_points.reach("aggregation: done")
        yield replace(result, state=None, broadcast=None) if inputs.clients_without_state else result


async def _fetched(
    services: Services, inputs: RoundInputs, stack: AsyncExitStack, *, as_stored: bool
) -> dict[tuple[BlobKind, str], Path]:
    """Checked local files of all blobs of a round, by kind and digest, until *stack* is closed.

    They are read and hashed as many at a time as there are cores. Raises NotFound, CorruptBlob and StorageFull.
    """
    storage, at_once = services.storage, asyncio.Semaphore(n_cores())

    async def fetch(kind: BlobKind, sha256: str) -> Path:
        if not inputs.has(kind, sha256):
            raise NotFound("blob", sha256)
        ref = BlobRef(sha256=sha256, n_bytes=inputs.stored[kind, sha256])
        store = storage.store_of(kind)
        async with at_once:
            file = store.as_file(ref, storage.scratch) if as_stored else storage.copies.as_file(store, ref)
            return await stack.enter_async_context(file)

    paths: dict[tuple[BlobKind, str], Path] = {}
    wanted = dict.fromkeys((kind, sha256) for kind, sha256 in inputs.blobs if sha256 is not None)
    fetched = await asyncio.gather(*(fetch(*each) for each in wanted), return_exceptions=True)
    for each, path in zip(wanted, fetched, strict=True):
        if isinstance(path, BaseException):
            raise path  # of the first blob that has an error, once no other is being fetched
        paths[each] = path
    return paths


def _staleness_discount(spec: CampaignSpec, staleness: int) -> float:
    """The factor on the weight of an update that was trained *staleness* rounds earlier: 1 if it is not late."""
    return float((1 + staleness) ** -spec.stragglers.staleness_exponent)


def _contribution(client: Client, staleness: int, result: Mapping[str, Any], weight: float) -> Contribution:
    return Contribution(
        client_number=client.client_number,
        agent_name=client.agent_name,
        update_sha256=result["delta"],
        extras_sha256=result["extras"],
        n_examples=client.n_train or 0,
        weight=weight,
        client_state_lost=result["client_state_lost"],
        staleness=staleness,
        trained_on=result["trained_on"],
    )


async def _load(
    session: AsyncSession,
    campaign: CampaignRow,
    number: int,
    contributions: Sequence[Contribution],
    clients: Sequence[Client],
) -> RoundInputs:
    spec = campaign.spec
    parent = await _ADAPTER.get_one(session, campaign.id, number - 1)
    updates = [digest for each in contributions for digest in (each.update_sha256, each.extras_sha256)]
    wanted = {parent.sha256, parent.state_sha256, *updates}
    use = BlobUseRow
    stored = select(use.kind, use.sha256, use.n_bytes, use.campaign_id).where(use.sha256.in_(wanted), use.stored)
    uses = (await session.execute(stored)).all()

    def weight_in(round_number: int) -> int:
        return sum(weight_of(spec, client) for client in clients if (client.joined_round or 1) <= round_number)

    by_number = {client.client_number: client for client in clients}
    total = weight_in(number)
    return RoundInputs(
        number=number,
        spec=spec,
        parent=parent,
        shares=[
            Share(client.agent_id, each, weight_of(spec, client) / total)
            for client, each in ((by_number[each.client_number], each) for each in contributions)
        ],
        stored={(kind, sha256): n_bytes for kind, sha256, n_bytes, user in uses if user == campaign.id},
        membership_scale=weight_in(number - 1) / total if number > 1 else 1.0,
    )
