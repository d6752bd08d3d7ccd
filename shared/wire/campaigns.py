"""Views of campaigns, rounds, tasks and participants for operators."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from shared.campaign.spec import CampaignSpec
from shared.metrics import Metric
from shared.states import CampaignState, ParticipantState, RoundState, TaskKind, TaskState
from shared.wire.adapters import Origin
from shared.wire.base import Reply, Request
from shared.wire.jobs import Fingerprint
from shared.wire.leases import Failure, Progress


class ParticipantView(Reply):
    """An agent that takes part in a campaign."""

    agent_id: str
    agent_name: str
    state: ParticipantState
    client_number: int | None
    """Fixed when the agent becomes a client; null before."""
    n_train: int | None
    """Training rows; null until the agent is prepared."""
    n_held_out: int | None
    """Rows for evaluation; null until the agent is prepared."""
    rank: int | None
    """Rank that the agent trains; null until the agent is prepared."""
    reason: str | None = None
    """Why the agent failed to prepare or does not match; of a prepared one, what of its rows or of the base model is
    not trained on."""
    joined_round: int | None = None
    """First round in which the client can be drawn."""
    failures_in_a_row: int = 0
    """Consecutive rounds that the client failed or whose deadline it missed."""
    set_aside_until: int | None = None
    """Last round for which the client is not drawn, after too many failures in a row."""


class CampaignView(Reply):
    """A campaign."""

    id: str
    name: str
    state: CampaignState
    reason: str | None
    """Why the campaign is paused, or what it waits for."""
    rounds_closed: int
    rounds: int
    created_at: datetime
    ended_at: datetime | None
    final_adapter: int | None
    """Number of the last adapter; null until the campaign is over."""
    best_adapter: int | None
    """Number of the adapter with the lowest held-out loss; null if none was evaluated."""


class CampaignDetail(CampaignView):
    """A campaign with its file and its participants."""

    spec: CampaignSpec
    participants: list[ParticipantView]
    fingerprint: Fingerprint | None = None
    """Fingerprint of the base model that the clients train on; null until it is settled."""
    metrics: list[Metric]
    """What the campaign's metrics are: title, unit, direction, weight."""
    origins: list[Origin] = []
    """The adapter that the campaign started from, the one that its campaign started from, and so on."""


class RollbackRequest(Request):
    """Takes a campaign back to its state after a round."""

    round: Annotated[int, Field(ge=0)]
    """The round to return to; 0 is the initial adapter."""


class RoundView(Reply):
    """A round and its clients."""

    number: int
    state: RoundState
    opened_at: datetime
    deadline_at: datetime
    closed_at: datetime | None
    learning_rate: float
    eligible: list[int]
    """Numbers of the clients that could be drawn."""
    sampled: list[int]
    """Numbers of the clients that were drawn."""
    contributors: list[int]
    """Numbers of the clients whose updates were aggregated."""


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
    """One value of a metric."""

    round: int
    name: str
    value: float
    unit: str
    """Unit of the value; empty for a plain number."""
    client_number: int | None
    """The client that reported it; null for a metric of the whole round."""
    agent_name: str | None
