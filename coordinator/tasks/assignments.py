"""Builds the assignment of a lease from the campaign and the task."""

from typing import Any

from sqlalchemy import case, func, select

from coordinator.database.parsed_specs import parsed_spec
from coordinator.database.prepared import Prepared, Transaction, given
from coordinator.database.tables import (
    AdapterRow,
    CampaignRow,
    ParticipantRow,
    RoundRow,
    TaskRow,
)
from coordinator.services import Services
from coordinator.tasks.facts import CampaignFacts, TaskFacts
from shared import algorithms
from shared.states import TaskKind, TaskState
from shared.wire.base import BlobRef
from shared.wire.tasks.assignments import (
    MAX_NAMED,
    Assignment,
    BenchmarkAssignment,
    EvaluateAssignment,
    InitAssignment,
    PrepareAssignment,
    TrainAssignment,
)
from shared.wire.tasks.results import Fingerprint

_ROUND_FACTS = Prepared(
    select(
        RoundRow.sampled,
        ParticipantRow.client_number,
        ParticipantRow.committed_update_sha256,
        AdapterRow.sha256,
        AdapterRow.n_bytes,
        AdapterRow.broadcast_sha256,
        AdapterRow.broadcast_bytes,
    )
    .join(AdapterRow, (AdapterRow.campaign_id == RoundRow.campaign_id) & (AdapterRow.number == RoundRow.number - 1))
    .join(ParticipantRow, ParticipantRow.campaign_id == RoundRow.campaign_id)
    .where(
        RoundRow.campaign_id == given("campaign"),
        RoundRow.number == given("round"),
        ParticipantRow.agent_id == given("agent"),
    )
)
"""Of a train task: the clients of its round, the agent's part, and the adapter that the round starts from."""
_ADAPTER_OF_LEASE = Prepared(
    select(
        CampaignRow.id,
        CampaignRow.spec_json,
        AdapterRow.sha256,
        AdapterRow.n_bytes,
        AdapterRow.broadcast_sha256,
        AdapterRow.broadcast_bytes,
        TaskRow.kind,
    )
    .join(TaskRow, TaskRow.campaign_id == CampaignRow.id)
    .join(
        AdapterRow,
        (AdapterRow.campaign_id == CampaignRow.id)
        & (AdapterRow.number == TaskRow.round - case((TaskRow.kind == TaskKind.TRAIN, 1), else_=0)),
    )
    .where(
        TaskRow.agent_id == given("agent"),
        TaskRow.state == TaskState.LEASED,
        TaskRow.kind.in_((TaskKind.TRAIN, TaskKind.EVALUATE, TaskKind.BENCHMARK)),
    )
)
_ADAPTER = Prepared(
    select(AdapterRow.sha256, AdapterRow.n_bytes).where(
        AdapterRow.campaign_id == given("campaign"), AdapterRow.number == given("number")
    )
)
_N_PARTICIPANTS = Prepared(
    select(func.count()).select_from(ParticipantRow).where(ParticipantRow.campaign_id == given("campaign"))
)
_NAMED = Prepared(
    select(ParticipantRow.agent_name)
    .where(ParticipantRow.campaign_id == given("campaign"))
    .order_by(ParticipantRow.agent_name)
    .limit(MAX_NAMED)
)


async def build_assignment(within: Transaction, campaign: CampaignFacts, task: TaskFacts) -> Assignment:
    """Build the assignment of a task."""
    if task.kind is TaskKind.PREPARE:
        return await _prepare(within, campaign)
    if task.kind is TaskKind.INIT:
        return InitAssignment(**_common(campaign), fingerprint=_fingerprint(campaign))
    if task.kind is TaskKind.EVALUATE:
        return await _evaluate(within, campaign, task)
    if task.kind is TaskKind.BENCHMARK:
        return await _benchmark(within, campaign, task)
    return await _train(within, campaign, task)


async def _prepare(within: Transaction, campaign: CampaignFacts) -> PrepareAssignment:
    spec = campaign.spec
    algorithm = algorithms.find(spec.algorithm.name)
    [(n_participants,)] = await _N_PARTICIPANTS.rows(within, campaign=campaign.id)
    return PrepareAssignment(
        **_common(campaign),
        spec=spec,
        created_on=campaign.created_on,
        plain_client=algorithm.has_plain_client,
        mixes_ranks=algorithm.server.mixes_ranks,
        participants=[name for (name,) in await _NAMED.rows(within, campaign=campaign.id)],
        n_participants=n_participants,
    )


async def _evaluate(within: Transaction, campaign: CampaignFacts, task: TaskFacts) -> EvaluateAssignment:
    reference = await _reference(within, campaign)
    return EvaluateAssignment(**await _of_adapter(within, campaign, task), reference=reference)


async def _benchmark(within: Transaction, campaign: CampaignFacts, task: TaskFacts) -> BenchmarkAssignment:
    return BenchmarkAssignment(**await _of_adapter(within, campaign, task), benchmarks=task.benchmarks)


async def _of_adapter(within: Transaction, campaign: CampaignFacts, task: TaskFacts) -> dict[str, Any]:
    """The fields of an assignment that measures an adapter."""
    assert task.round is not None
    [(sha256, n_bytes)] = await _ADAPTER.rows(within, campaign=campaign.id, number=task.round)
    return {
        **_common(campaign),
        "fingerprint": _fingerprint(campaign),
        "round": task.round,
        "history": campaign.history,
        "adapter": BlobRef(sha256=sha256, n_bytes=n_bytes),
    }


async def _train(within: Transaction, campaign: CampaignFacts, task: TaskFacts) -> TrainAssignment:
    assert task.round is not None
    facts = await _ROUND_FACTS.first(within, campaign=campaign.id, round=task.round, agent=task.agent_id)
    assert facts is not None
    sampled, client_number, committed_update, sha256, n_bytes, broadcast_sha256, broadcast_bytes = facts
    return TrainAssignment(
        **_common(campaign),
        fingerprint=_fingerprint(campaign),
        round=task.round,
        history=campaign.history,
        client_number=client_number,
        n_clients=campaign.n_clients,
        n_in_round=len(sampled),
        adapter=BlobRef(sha256=sha256, n_bytes=n_bytes),
        reference=await _reference(within, campaign),
        broadcast=_ref(broadcast_sha256, broadcast_bytes),
        committed_update=committed_update,
    )


def _common(campaign: CampaignFacts) -> dict[str, Any]:
    """The fields that all assignments have."""
    return {"campaign_id": campaign.id, "spec_sha256": campaign.spec_sha256}


def _fingerprint(campaign: CampaignFacts) -> Fingerprint:
    return Fingerprint.model_validate(campaign.fingerprint)


async def blobs_of_lease(services: Services, agent_id: str) -> list[BlobRef]:
    """The blobs that an agent may download now: those that its live lease names."""
    refs: list[BlobRef] = []
    for campaign_id, spec_json, sha256, n_bytes, *broadcast, kind in await services.database.ask(
        _ADAPTER_OF_LEASE, agent=agent_id
    ):
        refs.append(BlobRef(sha256=sha256, n_bytes=n_bytes))
        named = _ref(*broadcast)
        if named is not None and kind is TaskKind.TRAIN:
            refs.append(named)
        if parsed_spec(campaign_id, spec_json).kind_section().reference_is_adapter_zero:
            [(sha256_of_zero, size_of_zero)] = await services.database.ask(_ADAPTER, campaign=campaign_id, number=0)
            refs.append(BlobRef(sha256=sha256_of_zero, n_bytes=size_of_zero))
    return refs


async def _reference(within: Transaction, campaign: CampaignFacts) -> BlobRef | None:
    """Adapter 0, which is always stored, if it makes the reference model; None if that is the bare base model."""
    if not campaign.spec.kind_section().reference_is_adapter_zero:
        return None
    [(sha256, n_bytes)] = await _ADAPTER.rows(within, campaign=campaign.id, number=0)
    return BlobRef(sha256=sha256, n_bytes=n_bytes)


def _ref(sha256: str | None, n_bytes: int | None) -> BlobRef | None:
    return BlobRef(sha256=sha256, n_bytes=n_bytes or 0) if sha256 is not None else None
