"""Processes that share a PostgreSQL tell each other what they committed, so that nobody waits for a poll.

What is told is a hint: polls find all of it too, and everything that is not told while the connection is away.
"""

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator
from itertools import islice

from coordinator.database.availability import errors_logged
from coordinator.errors import DatabaseAway
from coordinator.notifications.channel import Channel
from coordinator.notifications.notifier import Kind, Notifiers
from coordinator.services import Services

log = logging.getLogger(__name__)

_GATHER_S = 0.02
"""Seconds within which what is to be told is told together."""
_CHECK_S = 15.0
"""Seconds after which a silent connection is asked whether it is there."""
_AT_ONCE = 200
"""Keys told at once: ids of 32 characters, far fewer bytes than ``channel.MAX_BYTES``."""


class Outbox:
    """What is still to be told to other processes."""

    def __init__(self) -> None:
        self._keys: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        self._filled = asyncio.Event()

    def add(self, kind: Kind, keys: Iterable[str]) -> None:
        """Add keys of a kind of notification."""
        self._keys[kind].update(keys)
        if self._keys[kind]:
            self._filled.set()

    def wake(self) -> None:
        """Have ``wait`` return."""
        self._filled.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for something to tell, or to be woken, at most *timeout_s* seconds. Returns whether that came."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._filled.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> list[str]:
        """Take out everything, as texts for the channel."""
        self._filled.clear()
        return [json.dumps([kind, keys]) for kind, each in self._keys.items() for keys in _batches(each)]


def _batches(keys: set[str]) -> Iterator[list[str]]:
    while keys:
        batch = list(islice(keys, _AT_ONCE))
        keys.difference_update(batch)
        yield batch


async def follow_replicas(services: Services) -> None:
    """Tell other processes what this one commits, and hear them, until cancelled. Connects again when it has to."""
    outbox = Outbox()
    services.notifiers.tell_others = outbox.add
    while True:
        with errors_logged(log, "could not follow other processes; trying again"):
            await _follow(services, outbox)
        await asyncio.sleep(services.settings.engine.poll_s)


async def _follow(services: Services, outbox: Outbox) -> None:
    """Tell and hear until the connection is lost. Raises DatabaseAway."""
    address, notifiers = services.database.address, services.notifiers
    async with Channel.opened(address, lambda text: _heard(notifiers, text), outbox.wake) as channel:
        outbox.take()  # what has been there for long was found by polls
        while not channel.is_lost:
            if not await outbox.wait(_CHECK_S):
                await channel.check()
                continue
            await asyncio.sleep(_GATHER_S)
            for text in outbox.take():
                await channel.say(text)
    raise DatabaseAway(f"{address.shown}: the connection for notifications was lost")


def _heard(notifiers: Notifiers, text: str) -> None:
    try:
        kind, keys = json.loads(text)
        notifiers.hear(Kind(kind), keys)
    except (ValueError, TypeError):  # said by something else
        log.debug("heard what is no notification: %.100s", text)
