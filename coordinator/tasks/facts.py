"""A task and its campaign as leases and results need them: a few columns, which cost a tenth of the rows' objects."""

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any, ClassVar

from sqlalchemy import select

from coordinator.database.parsed_specs import parsed_spec, parsed_spec_sha256
from coordinator.database.prepared import Prepared, Transaction, given
from coordinator.database.sessions import Database
from coordinator.database.tables import CampaignRow, ParticipantRow, TaskRow
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
    """Columns of a campaign. ``events.log.record`` raises last_event, and stores it together with due_at."""

    id: str
    name: str
    state: CampaignState
    reason: str | None
    spec_json: dict[str, Any]
    created_at: datetime
    fingerprint: dict[str, Any] | None
    history: int
    rounds_closed: int
    n_clients: int
    last_event: int
    due_at: datetime | None

    @property
    def spec(self) -> CampaignSpec:
        """The campaign file."""
        return parsed_spec(self.id, self.spec_json)

    @property
    def spec_sha256(self) -> str:
        """The digest of the campaign file, and of the day."""
        return parsed_spec_sha256(self.id, self.spec, self.created_on)

    @property
    def created_on(self) -> date:
        """The day on which the campaign was created (UTC)."""
        return self.created_at.astimezone(UTC).date()


@dataclass
class CampaignOfFiles(CampaignFacts):
    """The campaign of a task that has files. contract: the adapters' contract as JSON; None before adapter 0."""

    contract: str | None


@dataclass
class ParticipantFacts:
    """Columns of an agent's part in a campaign."""

    agent_name: str
    client_number: int | None
    rank: int | None
    committed_update_sha256: str | None
    lost_state_in: int | None


TASK = tuple(getattr(TaskRow, each.name) for each in fields(TaskFacts))
"""The columns of TaskFacts."""
_CAMPAIGN = tuple(getattr(CampaignRow, each.name) for each in fields(CampaignFacts))
_OF_FILES = tuple(getattr(CampaignRow, each.name) for each in fields(CampaignOfFiles))
_PARTICIPANT = tuple(getattr(ParticipantRow, each.name) for each in fields(ParticipantFacts))
_LOCK = Prepared(select(*_CAMPAIGN).where(CampaignRow.id == given("campaign")).with_for_update())
_WITH_CAMPAIGN = Prepared(
    select(*TASK, *_OF_FILES, *_PARTICIPANT)
    .join(CampaignRow, CampaignRow.id == TaskRow.campaign_id)
    .join(
        ParticipantRow,
        (ParticipantRow.campaign_id == TaskRow.campaign_id) & (ParticipantRow.agent_id == TaskRow.agent_id),
    )
    .where(TaskRow.id == given("task"))
)


async def lock_campaign_facts(transaction: Transaction, campaign_id: str) -> CampaignFacts:
    """Lock a campaign, as ``lifecycle.lock_campaign`` does. Raises NotFound."""
    row = await _LOCK.first(transaction, campaign=campaign_id)
    if row is None:
        raise NotFound("campaign", campaign_id)
    return CampaignFacts(*row)


async def find_with_campaign(
    database: Database, task_id: str
) -> tuple[TaskFacts, CampaignOfFiles, ParticipantFacts] | None:
    """A task, its campaign, and its agent's part in it; None if there is no such task."""
    for row in await database.ask(_WITH_CAMPAIGN, task=task_id):
        of_task, of_both = len(TASK), len(TASK) + len(_OF_FILES)
        return TaskFacts(*row[:of_task]), CampaignOfFiles(*row[of_task:of_both]), ParticipantFacts(*row[of_both:])
    return None
