"""Builds the job of a lease from the campaign and the task."""

from datetime import UTC
from typing import Any

from sqlalchemy import case, select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.tables import AdapterRow, CampaignRow, ParticipantRow, RoundRow, TaskRow
from coordinator.services import Services
from shared import algorithms
from shared.campaign.spec import CampaignSpec
from shared.states import TaskKind, TaskState
from shared.wire.base import BlobRef
from shared.wire.jobs import EvaluateJob, Fingerprint, InitJob, Job, JobBase, PrepareJob, TrainJob


async def build_job(session: AsyncSession, campaign: CampaignRow, task: TaskRow) -> Job:
    """Build the job of a task."""
    if task.kind is TaskKind.PREPARE:
        return _prepare_job(campaign)
    if task.kind is TaskKind.INIT:
        return _init_job(campaign)
    if task.kind is TaskKind.EVALUATE:
        return await _evaluate_job(session, campaign, task)
    return await _train_job(session, campaign, task)


def _prepare_job(campaign: CampaignRow) -> PrepareJob:
    spec = campaign.spec
    algorithm = algorithms.find(spec.algorithm.name)
    return PrepareJob(
        **_common(campaign, spec),
        lora=spec.lora,
        data=spec.data,
        algorithm=spec.algorithm.name,
        plain_client=algorithm.has_plain_client,
        mixes_ranks=algorithm.server.mixes_ranks,
        training=spec.training,
        rounds=spec.rounds,
    )


def _init_job(campaign: CampaignRow) -> InitJob:
    spec = campaign.spec
    return InitJob(
        **_common(campaign, spec), fingerprint=_fingerprint(campaign), lora=spec.lora, seed=spec.training.seed
    )


async def _evaluate_job(session: AsyncSession, campaign: CampaignRow, task: TaskRow) -> EvaluateJob:
    assert task.round is not None
    spec = campaign.spec
    adapter = await session.get_one(AdapterRow, (campaign.id, task.round))
    return EvaluateJob(
        **_common(campaign, spec),
        fingerprint=_fingerprint(campaign),
        lora=spec.lora,
        data=spec.data,
        training=spec.training,
        round=task.round,
        adapter=BlobRef(sha256=adapter.sha256, n_bytes=adapter.n_bytes),
        reference=await _reference(session, campaign),
    )


async def _train_job(session: AsyncSession, campaign: CampaignRow, task: TaskRow) -> TrainJob:
    assert task.round is not None
    spec = campaign.spec
    round_row, parent, participant = await _round_facts(session, task)
    assert participant.client_number is not None
    assert participant.n_train is not None
    assert participant.rank is not None
    return TrainJob(
        **_common(campaign, spec),
        fingerprint=_fingerprint(campaign),
        lora=spec.lora,
        rank=participant.rank,
        data=spec.data,
        algorithm=spec.algorithm.name,
        algorithm_params=spec.algorithm.params,
        plain_client=algorithms.find(spec.algorithm.name).has_plain_client,
        round=task.round,
        client_number=participant.client_number,
        training=spec.training,
        steps=spec.training.steps_for(participant.n_train),
        learning_rate=round_row.learning_rate,
        adapter=BlobRef(sha256=parent.sha256, n_bytes=parent.n_bytes),
        reference=await _reference(session, campaign),
        broadcast=_ref(parent.broadcast_sha256, parent.broadcast_bytes),
        committed_update=participant.committed_update_sha256,
        state_versions=spec.retention.server_state + 1,  # one more, because the newest update may never count
    )


def _common(campaign: CampaignRow, spec: CampaignSpec) -> dict[str, Any]:
    """The fields that all jobs have."""
    base = JobBase(
        campaign_id=campaign.id,
        campaign_name=campaign.name,
        created_on=campaign.created_at.astimezone(UTC).date(),
        training_kind=spec.kind,
        kind_params=spec.kind_params,
        base=spec.base,
    )
    return {name: getattr(base, name) for name in JobBase.model_fields}


def _fingerprint(campaign: CampaignRow) -> Fingerprint:
    return Fingerprint.model_validate(campaign.fingerprint)


async def _round_facts(session: AsyncSession, task: TaskRow) -> tuple[RoundRow, AdapterRow, ParticipantRow]:
    """A train task's round, the adapter that the round starts from, and the agent's participant."""
    is_parent = (AdapterRow.campaign_id == RoundRow.campaign_id) & (AdapterRow.number == RoundRow.number - 1)
    query = (
        select(RoundRow, AdapterRow, ParticipantRow)
        .join(AdapterRow, is_parent)
        .join(ParticipantRow, ParticipantRow.campaign_id == RoundRow.campaign_id)
        .where(
            RoundRow.campaign_id == task.campaign_id,
            RoundRow.number == task.round,
            ParticipantRow.agent_id == task.agent_id,
        )
    )
    round_row, parent, participant = (await session.execute(query)).one()
    return round_row, parent, participant


async def blobs_of_lease(services: Services, agent_id: str) -> list[BlobRef]:
    """The blobs that an agent may download now: those in the job of its live lease."""
    is_train = TaskRow.kind == TaskKind.TRAIN
    number = TaskRow.round - case((is_train, 1), else_=0)
    query = (
        select(CampaignRow, AdapterRow, is_train)
        .join(TaskRow, TaskRow.campaign_id == CampaignRow.id)
        .join(AdapterRow, (AdapterRow.campaign_id == CampaignRow.id) & (AdapterRow.number == number))
        .where(
            TaskRow.agent_id == agent_id,
            TaskRow.state == TaskState.LEASED,
            TaskRow.kind.in_((TaskKind.TRAIN, TaskKind.EVALUATE)),
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
