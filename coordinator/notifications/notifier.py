"""Notifications: wake agents that wait for tasks, watchers that wait for events, the engine and its verifier.

A notification reaches the subscribers of its own process at once, and those of others if the database passes it on
(``replicas``). All changes are also found by polls: of the engine, of event streams, and of one query for all agents
that wait (``tasks.work_poller``). A missed notification therefore costs time, but loses no work.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.prepared import Transaction
from coordinator.database.sessions import after_commit

ALL_CAMPAIGNS = ""
"""The key under which ``Notifiers.events`` announces the events of every campaign."""
_ENGINE, _VERIFIER = "engine", "verifier"
"""The keys of the engine's notifier: campaigns that may be due, and verifications."""


class Kind(StrEnum):
    """Whom a notification wakes: waiting agents, by their id; watchers, by a campaign's id; the engine."""

    TASKS = "tasks"
    EVENTS = "events"
    ENGINE = "engine"


class Notifier:
    """Wakes subscribers by key."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def notify(self, keys: Iterable[str]) -> None:
        """Wake all subscribers of the keys."""
        for key in keys:
            for event in self._waiting.get(key, ()):
                event.set()

    def lacks(self, key: str) -> bool:
        """Whether a key has no subscriber."""
        return key not in self._waiting

    @property
    def keys(self) -> list[str]:
        """The keys that have subscribers."""
        return list(self._waiting)

    def subscribe(self, key: str) -> "Subscription":
        """A subscription. It receives notifications from the moment its block is entered."""
        return Subscription(self._waiting, key)


class Subscription:
    """Receives the notifications of one key while its block lasts."""

    def __init__(self, waiting: defaultdict[str, set[asyncio.Event]], key: str) -> None:
        self._waiting = waiting
        self._key = key
        self._event = asyncio.Event()

    def __enter__(self) -> "Subscription":
        self._waiting[self._key].add(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting[self._key].discard(self._event)
        if not self._waiting[self._key]:
            del self._waiting[self._key]

    async def wait(self, timeout_s: float) -> bool:
        """Wait at most *timeout_s* seconds for a notification; one since the last wait returns at once.

        Returns whether there was one.
        """
        try:
            # not asyncio.wait_for: before Python 3.12 that loses a cancellation that comes just after a notification
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Notifiers:
    """All notifiers of a process.

    tasks: by agent id. events: by campaign id. closing: True once the service stops. tell_others: passes notifications
    on to other processes; None if there is no way.
    """

    def __init__(self) -> None:
        self.tasks = Notifier()
        self.events = Notifier()
        self._engine = Notifier()
        self._by_kind = {Kind.TASKS: self.tasks, Kind.EVENTS: self.events, Kind.ENGINE: self._engine}
        self.closing = False
        self.tell_others: Callable[[Kind, Iterable[str]], None] | None = None

    def after_commit(
        self,
        session: AsyncSession | Transaction,
        *,
        campaign_id: str | None = None,
        agent_ids: Iterable[str] = (),
        engine: bool = True,
    ) -> None:
        """Wake a campaign's watchers, agents and the engine once the session's transaction is committed.

        agent_ids: read after the commit, so a set may grow until then.
        """

        def notify() -> None:
            if campaign_id is not None:
                self._notify(Kind.EVENTS, [campaign_id, ALL_CAMPAIGNS])
            self._notify(Kind.TASKS, [*agent_ids])
            if engine:
                self.wake_engine()

        after_commit(session, notify)

    def _notify(self, kind: Kind, keys: list[str]) -> None:
        """Wake those who wait here, and tell other processes of the rest. Watchers may be here and there."""
        notifier = self._by_kind[kind]
        notifier.notify(keys)
        if self.tell_others is not None:
            self.tell_others(kind, keys if kind is Kind.EVENTS else filter(notifier.lacks, keys))

    def hear(self, kind: Kind, keys: Iterable[str]) -> None:
        """Wake those who wait here for what another process has committed."""
        self._by_kind[kind].notify(keys)

    def wake_engine(self) -> None:
        """Make the engine query due campaigns now."""
        self._notify(Kind.ENGINE, [_ENGINE])

    def wake_verifier(self) -> None:
        """Have the engine look for verifications to do."""
        self._notify(Kind.ENGINE, [_VERIFIER])

    def subscribe_engine(self) -> Subscription:
        """The engine's subscription."""
        return self._engine.subscribe(_ENGINE)

    def subscribe_verifier(self) -> Subscription:
        """The subscription of the engine's verifier."""
        return self._engine.subscribe(_VERIFIER)

    def close(self) -> None:
        """Wake all subscribers because the service stops."""
        self.closing = True
        for notifier in (self.tasks, self.events):
            notifier.notify(notifier.keys)
