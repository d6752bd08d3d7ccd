"""Builds the assignment of a lease from the campaign and the task."""

from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from coordinator.database.tables import AdapterRow, AgentRow, CampaignRow, ParticipantRow, RoundRow, TaskRow
from coordinator.services import Services
from shared import algorithms
from shared.campaign.digest import spec_sha256
from shared.states import AgentState, ParticipantState, TaskKind, TaskState
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


async def build_assignment(session: AsyncSession, campaign: CampaignRow, task: TaskRow) -> Assignment:
    """Build the assignment of a task."""
    if task.kind is TaskKind.PREPARE:
        return await _prepare(session, campaign)
    if task.kind is TaskKind.INIT:
        return InitAssignment(**_common(campaign), fingerprint=_fingerprint(campaign))
    if task.kind is TaskKind.EVALUATE:
        return await _evaluate(session, campaign, task)
    if task.kind is TaskKind.BENCHMARK:
        return await _benchmark(session, campaign, task)
    return await _train(session, campaign, task)


async def _prepare(session: AsyncSession, campaign: CampaignRow) -> PrepareAssignment:
    spec = campaign.spec
    algorithm = algorithms.find(spec.algorithm.name)
    takes_part = ParticipantRow.campaign_id == campaign.id
    named = select(ParticipantRow.agent_name).where(takes_part).order_by(ParticipantRow.agent_name).limit(MAX_NAMED)
    return PrepareAssignment(
        **_common(campaign),
        spec=spec,
        created_on=campaign.created_on,
        plain_client=algorithm.has_plain_client,
        mixes_ranks=algorithm.server.mixes_ranks,
        participants=list((await session.scalars(named)).all()),
        n_participants=await session.scalar(select(func.count()).select_from(ParticipantRow).where(takes_part)) or 0,
    )


async def _evaluate(session: AsyncSession, campaign: CampaignRow, task: TaskRow) -> EvaluateAssignment:
    reference = await _reference(session, campaign)
    return EvaluateAssignment(**await _of_adapter(session, campaign, task), reference=reference)


async def _benchmark(session: AsyncSession, campaign: CampaignRow, task: TaskRow) -> BenchmarkAssignment:
    return BenchmarkAssignment(**await _of_adapter(session, campaign, task), benchmarks=task.benchmarks)


async def _of_adapter(session: AsyncSession, campaign: CampaignRow, task: TaskRow) -> dict[str, Any]:
    """The fields of an assignment that measures an adapter."""
    assert task.round is not None
    adapter = await session.get_one(AdapterRow, (campaign.id, task.round))
    return {
        **_common(campaign),
        "fingerprint": _fingerprint(campaign),
        "round": task.round,
        "history": campaign.history,
        "adapter": BlobRef(sha256=adapter.sha256, n_bytes=adapter.n_bytes),
    }


async def _train(session: AsyncSession, campaign: CampaignRow, task: TaskRow) -> TrainAssignment:
    assert task.round is not None
    round_row, parent, participant, n_clients = await _round_facts(session, task)
    assert participant.client_number is not None
    return TrainAssignment(
        **_common(campaign),
        fingerprint=_fingerprint(campaign),
        round=task.round,
        history=campaign.history,
        client_number=participant.client_number,
        n_clients=n_clients,
        n_in_round=len(round_row.sampled),
        adapter=BlobRef(sha256=parent.sha256, n_bytes=parent.n_bytes),
        reference=await _reference(session, campaign),
        broadcast=_ref(parent.broadcast_sha256, parent.broadcast_bytes),
        committed_update=participant.committed_update_sha256,
    )


def _common(campaign: CampaignRow) -> dict[str, Any]:
    """The fields that all assignments have."""
    return {"campaign_id": campaign.id, "spec_sha256": spec_sha256(campaign.spec, campaign.created_on)}


def _fingerprint(campaign: CampaignRow) -> Fingerprint:
    return Fingerprint.model_validate(campaign.fingerprint)


async def _round_facts(session: AsyncSession, task: TaskRow) -> tuple[RoundRow, AdapterRow, ParticipantRow, int]:
    """A train task's round, the adapter that the round starts from, the agent's participant, and the number of the
    campaign's clients whose agents are not revoked and whose owners have not left."""
    is_parent = (AdapterRow.campaign_id == RoundRow.campaign_id) & (AdapterRow.number == RoundRow.number - 1)
    client = aliased(ParticipantRow)
    n_clients = (
        select(func.count())
        .select_from(client)
        .join(AgentRow, AgentRow.id == client.agent_id)
        .where(
            client.campaign_id == task.campaign_id,
            client.client_number.is_not(None),
            client.state != ParticipantState.LEFT,
            AgentRow.state == AgentState.ACTIVE,
        )
        .scalar_subquery()
    )
    query = (
        select(RoundRow, AdapterRow, ParticipantRow, n_clients)
        .join(AdapterRow, is_parent)
        .join(ParticipantRow, ParticipantRow.campaign_id == RoundRow.campaign_id)
        .where(
            RoundRow.campaign_id == task.campaign_id,
            RoundRow.number == task.round,
            ParticipantRow.agent_id == task.agent_id,
        )
    )
    round_row, parent, participant, number = (await session.execute(query)).one()
    return round_row, parent, participant, number


async def blobs_of_lease(services: Services, agent_id: str) -> list[BlobRef]:
    """The blobs that an agent may download now: those that its live lease names."""
    is_train = TaskRow.kind == TaskKind.TRAIN
    number = TaskRow.round - case((is_train, 1), else_=0)
    query = (
        select(CampaignRow, AdapterRow, is_train)
        .join(TaskRow, TaskRow.campaign_id == CampaignRow.id)
        .join(AdapterRow, (AdapterRow.campaign_id == CampaignRow.id) & (AdapterRow.number == number))
        .where(
            TaskRow.agent_id == agent_id,
            TaskRow.state == TaskState.LEASED,
            TaskRow.kind.in_((TaskKind.TRAIN, TaskKind.EVALUATE, TaskKind.BENCHMARK)),
        )
    )
    refs: list[BlobRef] = []
    for campaign, adapter, is_training in await services.database.fetch(query):
        refs.append(BlobRef(sha256=adapter.sha256, n_bytes=adapter.n_bytes))
        broadcast = _ref(adapter.broadcast_sha256, adapter.broadcast_bytes)
        if broadcast is not None and is_training:
            refs.append(broadcast)
        if campaign.spec.kind_section().reference_is_adapter_zero:
            initial = select(AdapterRow).where(AdapterRow.campaign_id == campaign.id, AdapterRow.number == 0)
            for (row,) in await services.database.fetch(initial):
                refs.append(BlobRef(sha256=row.sha256, n_bytes=row.n_bytes))
    return refs


async def _reference(session: AsyncSession, campaign: CampaignRow) -> BlobRef | None:
    """Adapter 0, which is always stored, if it makes the reference model; None if that is the bare base model."""
    if not campaign.spec.kind_section().reference_is_adapter_zero:
        return None
    initial = await session.get_one(AdapterRow, (campaign.id, 0))
    return BlobRef(sha256=initial.sha256, n_bytes=initial.n_bytes)


def _ref(sha256: str | None, n_bytes: int | None) -> BlobRef | None:
    return BlobRef(sha256=sha256, n_bytes=n_bytes or 0) if sha256 is not None else None
