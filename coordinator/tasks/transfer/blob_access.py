"""Which stored bytes a caller may download. The one rule, by what campaigns use the bytes as.

Operators read global adapters. Agents read what their live lease names, which are aggregates too, and by a path of its
own the global adapters of campaigns in which they were clients. A single client's update is read by the engine alone,
when it aggregates or verifies a round; no request gets it.
"""

from collections.abc import Collection

from sqlalchemy import Select, select

from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import AdapterRow, BlobUseRow, ParticipantRow
from coordinator.errors import Forbidden, NotFound
from coordinator.services import Services
from coordinator.storage.stored_adapters import is_stored
from coordinator.tasks.assignments import blobs_of_lease
from coordinator.web.authentication import Agent, Caller
from shared.states import BlobKind
from shared.wire.base import BlobRef

_BY_OPERATORS = frozenset({BlobKind.ADAPTER})
"""Not the algorithm's state: after a round with one contributor it is that client's update."""
_BY_AGENTS = frozenset({BlobKind.ADAPTER, BlobKind.BROADCAST})
"""What a lease may name."""
_USES = Prepared(
    select(BlobUseRow.kind, BlobUseRow.stored, BlobUseRow.n_bytes)
    .where(BlobUseRow.sha256 == given("sha256"))
    .distinct()
)


async def find_readable(services: Services, caller: Caller, sha256: str) -> tuple[BlobKind, BlobRef]:
    """A stored blob that the caller may read, and a kind under which it is stored.

    Equal bytes may be stored under several kinds: they are readable if one of these is. Raises Forbidden and NotFound.
    """
    if isinstance(caller, Agent):
        await _check_leased(services, caller.id, sha256)
        readable = _BY_AGENTS
    else:
        readable = _BY_OPERATORS
    kinds = set()
    for kind, stored, n_bytes in await services.database.ask(_USES, sha256=sha256):
        if stored and kind in readable:
            return kind, BlobRef(sha256=sha256, n_bytes=n_bytes)
        kinds.add(kind)
    if kinds.isdisjoint(readable) and kinds:
        raise Forbidden(_refusal(kinds))
    raise NotFound("blob", sha256)  # also an adapter that is no longer stored, although an update has its bytes


def took_part(agent_id: str, campaign_id: str) -> Select[int | None]:
    """A query for the client number of an agent in a campaign: no row unless it could be drawn for a round.

    It stays a client when it pauses or leaves. To others a campaign answers as one that does not exist.
    """
    return select(ParticipantRow.client_number).where(
        ParticipantRow.campaign_id == campaign_id,
        ParticipantRow.agent_id == agent_id,
        ParticipantRow.client_number.is_not(None),
    )


async def find_own_adapter(services: Services, agent_id: str, campaign_id: str, sha256: str) -> BlobRef:
    """A stored global adapter of a campaign in which the agent was a client, by its digest. Raises NotFound."""
    if not await services.database.fetch(took_part(agent_id, campaign_id)):
        raise NotFound("campaign", campaign_id)
    query = select(AdapterRow.n_bytes).where(
        AdapterRow.campaign_id == campaign_id, AdapterRow.sha256 == sha256, is_stored()
    )
    for (n_bytes,) in await services.database.fetch(query.limit(1)):
        return BlobRef(sha256=sha256, n_bytes=n_bytes)
    raise NotFound("adapter", sha256)  # also an update or a broadcast: nothing says whether such bytes are stored


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
