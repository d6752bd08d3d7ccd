"""Which stored bytes a caller may download. The one rule, by what campaigns use the bytes as.

Operators read global adapters. Agents read what their live lease names, which are aggregates too. A single client's
update is read by the engine alone, when it aggregates or verifies a round; no request gets it.
"""

from collections.abc import Collection

from sqlalchemy import select

from coordinator.database.tables import BlobUseRow
from coordinator.errors import Forbidden, NotFound
from coordinator.services import Services
from coordinator.tasks.assignments import blobs_of_lease
from coordinator.web.authentication import Agent, Caller
from shared.states import BlobKind
from shared.wire.base import BlobRef

_BY_OPERATORS = frozenset({BlobKind.ADAPTER})
"""Not the algorithm's state: after a round with one contributor it is that client's update."""
_BY_AGENTS = frozenset({BlobKind.ADAPTER, BlobKind.BROADCAST})
"""What a lease may name."""


async def find_readable(services: Services, caller: Caller, sha256: str) -> tuple[BlobKind, BlobRef]:
    """A stored blob that the caller may read, and a kind under which it is stored.

    Equal bytes may be stored under several kinds: they are readable if one of these is. Raises Forbidden and NotFound.
    """
    if isinstance(caller, Agent):
        await _check_leased(services, caller.id, sha256)
        readable = _BY_AGENTS
    else:
        readable = _BY_OPERATORS
    query = select(BlobUseRow.kind, BlobUseRow.stored, BlobUseRow.n_bytes).where(BlobUseRow.sha256 == sha256)
    kinds = set()
    for kind, stored, n_bytes in await services.database.fetch(query.distinct()):
        if stored and kind in readable:
            return kind, BlobRef(sha256=sha256, n_bytes=n_bytes)
        kinds.add(kind)
    if kinds.isdisjoint(readable) and kinds:
        raise Forbidden(_refusal(kinds))
    raise NotFound("blob", sha256)  # also an adapter that is no longer stored, although an update has its bytes


async def _check_leased(services: Services, agent_id: str, sha256: str) -> None:
    """Raise Forbidden unless the agent's live lease names the blob. The text does not say whether the blob exists."""
    if sha256 not in {ref.sha256 for ref in await blobs_of_lease(services, agent_id)}:
        message = "this agent has no live lease on a task that needs this blob"
        raise Forbidden(message)


def _refusal(kinds: Collection[BlobKind]) -> str:
    if any(kind.is_of_one_client for kind in kinds):
        return "single updates are read by aggregation and verification alone"
    return (
        "the algorithm's state is read by aggregation and verification, and by agents whose task needs it; "
        "operators read adapters"
    )
