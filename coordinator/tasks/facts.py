"""A task and its campaign as a lease needs them: a few columns, which cost a tenth of the rows' objects."""

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any, ClassVar

from sqlalchemy import select

from coordinator.database.parsed_specs import parsed_spec
from coordinator.database.prepared import Prepared, Transaction, given
from coordinator.database.tables import CampaignRow, TaskRow
from coordinator.errors import NotFound
from shared.campaign.spec import CampaignSpec
from shared.states import CampaignState, TaskKind, TaskState


@dataclass
class TaskFacts:
    """Columns of a task."""

    ROW: ClassVar = TaskRow

    id: str
    campaign_id: str
    agent_id: str
    kind: TaskKind
    state: TaskState
    round: int | None
    benchmarks: list[Any] | None
    attempt: int
    token_hash: str | None
    instance_id: str | None
    lease_expires_at: datetime | None
    renewed_at: datetime | None
    next_grant_at: datetime | None
    result: dict[str, Any] | None


@dataclass
class CampaignFacts:
    """Columns of a campaign. ``events.log.record`` raises last_event, and stores it."""

    id: str
    name: str
    state: CampaignState
    spec_json: dict[str, Any]
    created_at: datetime
    fingerprint: dict[str, Any] | None
    history: int
    rounds_closed: int
    last_event: int

    @property
    def spec(self) -> CampaignSpec:
        """The campaign file."""
        return parsed_spec(self.id, self.spec_json)

    @property
    def created_on(self) -> date:
        """The day on which the campaign was created (UTC)."""
        return self.created_at.astimezone(UTC).date()


TASK = tuple(getattr(TaskRow, each.name) for each in fields(TaskFacts))
"""The columns of TaskFacts."""
_LOCK = Prepared(
    select(*(getattr(CampaignRow, each.name) for each in fields(CampaignFacts)))
    .where(CampaignRow.id == given("campaign"))
    .with_for_update()
)


async def lock_campaign_facts(transaction: Transaction, campaign_id: str) -> CampaignFacts:
    """Lock a campaign, as ``lifecycle.lock_campaign`` does. Raises NotFound."""
    row = await _LOCK.first(transaction, campaign=campaign_id)
    if row is None:
        raise NotFound("campaign", campaign_id)
    return CampaignFacts(*row)
