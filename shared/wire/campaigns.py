"""Campaigns, rounds, tasks and participants as operators see them."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from shared.campaign import CampaignSpec
from shared.states import CampaignState, ParticipantState, RoundState, TaskKind, TaskState
from shared.wire.adapters import Origin
from shared.wire.base import Reply, Request
from shared.wire.jobs import Fingerprint
from shared.wire.leases import Failure, Progress


class ParticipantView(Reply):
    """An agent's part in one campaign. ``client_number`` is fixed when it becomes a client, with ``joined_round``.
    ``set_aside_until``: the last round that it sits out, after ``failures_in_a_row``."""

    agent_id: str
    agent_name: str
    state: ParticipantState
    client_number: int | None
    n_train: int | None
    n_held_out: int | None
    reason: str | None = None
    joined_round: int | None = None
    failures_in_a_row: int = 0
    set_aside_until: int | None = None


class CampaignView(Reply):
    """A campaign. ``reason`` says why it is paused, or what it waits for."""

    id: str
    name: str
    state: CampaignState
    reason: str | None
    rounds_closed: int
    rounds: int
    created_at: datetime
    ended_at: datetime | None
    final_adapter: int | None
    best_adapter: int | None


class CampaignDetail(CampaignView):
    """A campaign with its file and its participants. ``fingerprint`` is of the base model that they train on; None
    until they agree on one. ``origins``: the adapter of another campaign that it started from, the one which that
    campaign started from, and so on."""

    spec: CampaignSpec
    participants: list[ParticipantView]
    fingerprint: Fingerprint | None = None
    origins: list[Origin] = []


class RollbackRequest(Request):
    """Takes a campaign back to where it stood after a round; 0 is the initial adapter."""

    round: Annotated[int, Field(ge=0)]


class RoundView(Reply):
    """A round: who could take part, who was drawn, whose update counted."""

    number: int
    state: RoundState
    opened_at: datetime
    deadline_at: datetime
    closed_at: datetime | None
    learning_rate: float
    eligible: list[int]
    sampled: list[int]
    contributors: list[int]


class TaskView(Reply):
    """A task with its live progress."""

    id: str
    campaign_id: str
    agent_id: str
    agent_name: str
    kind: TaskKind
    state: TaskState
    round: int | None
    attempt: int
    progress: Progress | None
    failure: Failure | None
    created_at: datetime
    ended_at: datetime | None


class MetricView(Reply):
    """One number. ``client_number`` is None where it speaks of the whole round."""

    round: int
    name: str
    value: float
    client_number: int | None
    agent_name: str | None
