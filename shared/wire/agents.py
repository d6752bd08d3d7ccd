"""Views of agents for operators, and an agent's view of its own campaigns."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from shared.bounds import Count
from shared.campaign.spec import Name
from shared.states import AgentState, CampaignState, ParticipantState, TaskState
from shared.wire.base import Id, Reply, Request

MAX_OWN_CAMPAIGNS = 20


class AgentView(Reply):
    """A registered agent."""

    id: str
    name: str
    labels: dict[str, str]
    state: AgentState
    version: str
    created_at: datetime
    last_seen_at: datetime | None
    away_since: datetime | None = None
    """Time of the last request of an agent that missed several of its usual ones; null if it is there or revoked."""
    current_task_id: str | None = None


class Part(StrEnum):
    """What an owner wants of its agent in a campaign."""

    TAKES_PART = "takes-part"
    PAUSED = "paused"
    LEFT = "left"


class PartRequest(Request):
    """Says what the owner wants of the calling agent in a campaign."""

    part: Part


class ReleaseReply(Reply):
    """What the task of a released update is now."""

    state: TaskState
    """`pending` or `leased`: the update is awaited. `done`: it is there."""


class OwnCampaign(Reply):
    """A campaign that the calling agent takes part in."""

    id: Id
    name: Name
    state: CampaignState
    participant: ParticipantState
    """What the coordinator knows of the agent's part in it."""
    history: Count
    """Number of the campaign's history, which rises with each rollback and restore."""
    rounds_closed: Count
    rounds: Count
    n_train: Count | None
    """The agent's training rows; null until it is prepared."""
    update_round: Count | None
    """The round of the agent's last update that counted; null if none has."""
    update_weight: Annotated[float, Field(ge=0, le=1)] | None
    """The weight of that update; null if none has counted."""


class OwnCampaigns(Reply):
    """The calling agent's campaigns: those that are not over, then those that ended last."""

    campaigns: Annotated[list[OwnCampaign], Field(max_length=MAX_OWN_CAMPAIGNS)]
