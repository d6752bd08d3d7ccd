"""The services of one process: used by endpoints, the engine and the sweeper. Independent of HTTP."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from coordinator.clock import Clock
from coordinator.database.sessions import Database
from coordinator.notifications.notifier import Notifiers
from coordinator.settings import Settings
from coordinator.signing.signer import Signer
from coordinator.storage.storage import Storage


@dataclass
class Services:
    """Everything that one process of the coordinator shares. Create it with ``app.create_services``.

    aggregations: threads that aggregate and verify rounds, separate from those that read and hash files.
    last_seen: time of each agent's last request, by agent id; ``presence`` writes it to the database in batches.
    up_since: when the process began to serve.
    """

    settings: Settings
    clock: Clock
    database: Database
    storage: Storage
    aggregations: ThreadPoolExecutor
    signer: Signer
    notifiers: Notifiers = field(default_factory=Notifiers)
    last_seen: dict[str, datetime] = field(default_factory=dict)
    up_since: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.up_since = self.clock.now()

    async def close(self) -> None:
        """Close connections and threads."""
        self.aggregations.shutdown(wait=False)
        await self.database.close()
