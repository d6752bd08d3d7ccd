"""A campaign's clients with their shares and metrics: who gains, who loses, and who tells nothing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import presence
from coordinator.database.tables import AgentRow, CampaignRow, MetricRow, ParticipantRow, TaskRow
from coordinator.services import Services
from shared.metrics import HELD_OUT_LOSS, Metric, Origin, Values
from shared.states import AgentState, EvaluationState, TaskKind, TaskState
from shared.wire.campaigns import ClientView
from shared.wire.tasks.leases import Failure

Measured = Mapping[tuple[int, int], Values]
"""Metrics by name, of a client's number and a round."""

_BY_TASK = {
    TaskState.DONE: EvaluationState.EVALUATED,
    TaskState.PENDING: EvaluationState.UNDER_WAY,
    TaskState.LEASED: EvaluationState.UNDER_WAY,
    TaskState.FAILED: EvaluationState.FAILED,
}


async def views_of(
    session: AsyncSession,
    services: Services,
    campaign: CampaignRow,
    clients: Sequence[ParticipantRow],
    metrics: Mapping[str, Metric],
) -> list[ClientView]:
    """The views of some clients of a campaign.

    Args:
        session: reads the database.
        services: know which agents are away.
        campaign: the campaign.
        clients: participants with a client number.
        metrics: what the campaign's metrics are, by name.
    """
    evaluations = await _evaluations(session, campaign, clients)
    measured = await _measured(session, campaign.id, clients)
    away = await away_by_agent(session, services, campaign.id)
    held = await _held(session, campaign.id)

    def of(client: ParticipantRow, round_number: int | None, origin: Origin) -> Values:
        assert client.client_number is not None
        values = measured.get((client.client_number, round_number), {}) if round_number is not None else {}
        return {name: value for name, value in values.items() if name in metrics and metrics[name].origin is origin}

    views = []
    for client in clients:
        task = evaluations.get(client.agent_id)
        held_out = of(client, client.evaluated_adapter, Origin.EVALUATION)
        base = of(client, 0, Origin.EVALUATION) if held_out else {}
        known = HELD_OUT_LOSS in held_out and HELD_OUT_LOSS in base
        loss = metrics[HELD_OUT_LOSS]
        views.append(
            ClientView(
                client_number=client.client_number,
                agent_id=client.agent_id,
                agent_name=client.agent_name,
                state=client.state,
                n_train=client.n_train,
                n_held_out=client.n_held_out,
                report=client.report,
                evaluates=client.evaluates,
                away_since=away.get(client.agent_id),
                update_round=client.update_round,
                update_weight=client.update_weight,
                held_round=held.get(client.agent_id),
                training=of(client, client.update_round, Origin.TRAINING),
                evaluation=_state(client, task),
                evaluation_failure=Failure.model_validate(task.failure) if task is not None and task.failure else None,
                evaluated_adapter=client.evaluated_adapter,
                held_out=held_out,
                base=base,
                worse_than_base=loss.is_worse(held_out[HELD_OUT_LOSS], base[HELD_OUT_LOSS]) if known else None,
            )
        )
    return views


def _state(client: ParticipantRow, task: TaskRow | None) -> EvaluationState:
    if task is not None and task.state in _BY_TASK:
        return _BY_TASK[task.state]
    if client.report == "none":
        return EvaluationState.WITHHELD
    if client.n_held_out == 0:
        return EvaluationState.NO_ROWS
    return EvaluationState.TOO_FEW_ROWS if client.evaluates is False else EvaluationState.NONE


async def _evaluations(
    session: AsyncSession, campaign: CampaignRow, clients: Sequence[ParticipantRow]
) -> dict[str, TaskRow]:
    """The clients' latest tasks to evaluate the newest adapter that is evaluated, by agent id."""
    spec = campaign.spec
    newest = next((number for number in range(campaign.rounds_closed, -1, -1) if spec.evaluates(number)), None)
    if newest is None:
        return {}
    query = select(TaskRow).where(
        TaskRow.campaign_id == campaign.id,
        TaskRow.kind == TaskKind.EVALUATE,
        TaskRow.round == newest,
        TaskRow.state != TaskState.SUPERSEDED,
        TaskRow.agent_id.in_([client.agent_id for client in clients]),
    )
    return {task.agent_id: task for task in (await session.scalars(query.order_by(TaskRow.id))).all()}


async def _held(session: AsyncSession, campaign_id: str) -> dict[str, int | None]:
    """The latest round whose update an owner holds, by agent id."""
    query = select(TaskRow.agent_id, TaskRow.round).where(
        TaskRow.campaign_id == campaign_id, TaskRow.kind == TaskKind.TRAIN, TaskRow.state == TaskState.HELD
    )
    return {agent_id: number for agent_id, number in (await session.execute(query.order_by(TaskRow.id))).all()}  # noqa: C416


async def _measured(session: AsyncSession, campaign_id: str, clients: Sequence[ParticipantRow]) -> Measured:
    """The clients' metrics of their last updates, of their last evaluated adapters and of adapter 0."""
    rounds = {0}
    for client in clients:
        rounds |= {number for number in (client.update_round, client.evaluated_adapter) if number is not None}
    query = select(MetricRow.client_number, MetricRow.round, MetricRow.name, MetricRow.value).where(
        MetricRow.campaign_id == campaign_id,
        MetricRow.round.in_(sorted(rounds)),
        MetricRow.client_number.in_([each.client_number for each in clients]),
    )
    found: dict[tuple[int, int], Values] = defaultdict(dict)
    for client_number, round_number, name, value in (await session.execute(query)).all():
        assert client_number is not None
        found[client_number, round_number][name] = value
    return found


async def revoked_agents(session: AsyncSession, campaign_id: str) -> set[str]:
    """The ids of the participants of a campaign whose agents are revoked."""
    query = (
        select(AgentRow.id)
        .join(ParticipantRow, ParticipantRow.agent_id == AgentRow.id)
        .where(ParticipantRow.campaign_id == campaign_id, AgentRow.state == AgentState.REVOKED)
    )
    return set((await session.scalars(query)).all())


async def away_by_agent(session: AsyncSession, services: Services, campaign_id: str) -> dict[str, datetime]:
    """Since when those participants of a campaign that are away are so, by agent id."""
    query = (
        select(AgentRow.id, AgentRow.state, AgentRow.last_seen_at)
        .join(ParticipantRow, ParticipantRow.agent_id == AgentRow.id)
        .where(ParticipantRow.campaign_id == campaign_id)
    )
    rows = (await session.execute(query)).all()
    since = {agent_id: presence.away_since(services, agent_id, state, seen) for agent_id, state, seen in rows}
    return {agent_id: at for agent_id, at in since.items() if at is not None}
