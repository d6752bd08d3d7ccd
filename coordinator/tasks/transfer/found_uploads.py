"""Uploads by their id: whose they are, how far they are, and under which lease they grow."""

from dataclasses import dataclass

from sqlalchemy import select

from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import TaskRow, UploadRow
from coordinator.errors import Forbidden, LeaseLost, NotFound
from coordinator.services import Services
from coordinator.tasks.claims import LeaseClaim, LeaseHolder
from shared.states import TaskState


@dataclass(frozen=True)
class UploadFacts:
    """Columns of an upload and of its task. n_bytes: of the whole file; offset: those that it has."""

    offset: int
    n_bytes: int
    task_id: str
    agent_id: str
    attempt: int
    token_hash: str | None
    state: TaskState


_FACTS = Prepared(
    select(
        UploadRow.offset,
        UploadRow.n_bytes,
        UploadRow.task_id,
        TaskRow.agent_id,
        TaskRow.attempt,
        TaskRow.token_hash,
        TaskRow.state,
    )
    .join(TaskRow, TaskRow.id == UploadRow.task_id)
    .where(UploadRow.id == given("upload"))
)


async def find(services: Services, agent_id: str, upload_id: str) -> UploadFacts:
    """An agent's own upload. Raises NotFound and Forbidden."""
    for row in await services.database.ask(_FACTS, upload=upload_id):
        upload = UploadFacts(*row)
        if upload.agent_id != agent_id:
            message = "this upload belongs to another agent"
            raise Forbidden(message)
        return upload
    raise NotFound("upload", upload_id)


async def find_leased(services: Services, holder: LeaseHolder, upload_id: str) -> tuple[LeaseClaim, UploadFacts]:
    """An upload of a task whose lease the holder has. Raises NotFound, Forbidden and LeaseLost."""
    upload = await find(services, holder.agent_id, upload_id)
    claim = holder.claim_of(upload.task_id)
    found = (upload.attempt, upload.token_hash, upload.state)
    if found != (claim.attempt, claim.token_hash, TaskState.LEASED):
        raise LeaseLost(claim.task_id, claim.attempt)
    return claim, upload
