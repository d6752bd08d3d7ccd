"""Views of agents for operators."""

from datetime import datetime

from shared.states import AgentState
from shared.wire.base import Reply


class AgentView(Reply):
    """A registered agent."""

    id: str
    name: str
    labels: dict[str, str]
    state: AgentState
    version: str
    created_at: datetime
    last_seen_at: datetime | None
    current_task_id: str | None = None
