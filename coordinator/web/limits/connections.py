"""The open connections of a process: how many there may be, and which one makes room for another.

A connection has one of three standings. *Unknown*: no request with a valid key has come over it. *Idle*: one has, and
none is in progress. *Busy*: a request with a valid key is in progress. Room is made at the expense of the unknown ones
first, the oldest before others, then of the idle ones; a busy connection never makes room. So whoever opens connections
without a key displaces their own, and callers with a key are served as before.
"""

import logging
import time
from collections.abc import Callable
from itertools import islice

from coordinator.web.limits.rates import address_key

log = logging.getLogger(__name__)

_LOOKED_AT = 16
"""How many of an address's oldest connections are looked at for one that waits for no answer."""
_AT_ONCE = 8
"""Times the limit of an address that it may have while they are new, or wait for an answer. With the default limit, a
thousand agents behind one address may return at the same moment."""
_NEARLY_ALL = 0.9
"""Part of the connections that are open when the log says that they become few."""
_TELL_AGAIN_S = 600.0
"""Seconds until the log says the same again."""


class Connection:
    """An open connection. Create it with ``Connections.add``."""

    def __init__(self, connections: "Connections", address: str | None, close: Callable[[], None]) -> None:
        """address: what of the caller's counts; None for a trusted proxy. close: closes the connection at once."""
        self.address = address
        self.close = close
        self.opened_at = time.monotonic()
        self._connections = connections
        self._has_key = False
        self.is_asking = False

    def note_key(self) -> None:
        """Note that the request in progress has a valid key."""
        self._has_key = True
        self._connections.set_busy(self)

    def begins(self) -> None:
        """Note that the header of a request has arrived. Until its body has too, the caller waits for no answer."""
        if self._has_key:
            self._connections.set_busy(self)

    def asks(self) -> None:
        """Note that a request has arrived to its end."""
        self.is_asking = True

    def ends(self) -> None:
        """Note that a request was answered."""
        self.is_asking = False
        if self._has_key:
            self._connections.set_idle(self)


class Connections:
    """The open connections of a process.

    Args:
        most: most connections.
        most_of_address: most connections of an address that are unknown. Eight times as many may be new, or wait for
            an answer.
        is_proxy: whether an address is that of a trusted proxy, which speaks for many callers.
        grace_s: seconds in which a connection counts as new: its first request may come.
    """

    def __init__(self, most: int, most_of_address: int, is_proxy: Callable[[str], bool], grace_s: float) -> None:
        self._most = most
        self._most_of_address = most_of_address
        self._is_proxy = is_proxy
        self._grace_s = grace_s
        self._open: set[Connection] = set()
        # dicts: sets in the order of insertion
        self._unknown: dict[Connection, None] = {}
        self._idle: dict[Connection, None] = {}
        self._unknown_of: dict[str, dict[Connection, None]] = {}
        self._told_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, host: str, close: Callable[[], None]) -> Connection | None:
        """Add a connection, if need be in the place of another. None if all others are busy.

        Args:
            host: the peer's address.
            close: closes the connection at once.
        """
        if len(self._open) >= self._most:
            standing = self._unknown or self._idle
            if not standing:
                self._tell("all %s connections that may be open have a request in progress: new ones are refused; %s")
                return None
            self._close(next(iter(standing)))
        connection = Connection(self, None if self._is_proxy(host) else address_key(host), close)
        if connection.address is not None:
            displaced = self._displaced(connection.address, connection.opened_at)
            if displaced is not None:
                self._close(displaced)
            self._unknown_of.setdefault(connection.address, {})[connection] = None
        self._open.add(connection)
        self._unknown[connection] = None
        if len(self._open) >= _NEARLY_ALL * self._most:
            self._tell("nearly all of the %s connections that may be open are; %s")
        return connection

    def _tell(self, words: str) -> None:
        """Warn of few connections, and how to have more, now and then."""
        now = time.monotonic()
        if now - self._told_at.get(words, -_TELL_AGAIN_S) >= _TELL_AGAIN_S:
            self._told_at[words] = now
            remedy = "raise limits.connections, and the limit of open files (ulimit -n, LimitNOFILE) with it"
            log.warning(words, f"{self._most:,}", remedy)

    def _displaced(self, address: str, now: float) -> Connection | None:
        """The connection that makes room for a further one of its address; None if there is room."""
        same = self._unknown_of.get(address, {})
        if len(same) >= self._most_of_address * _AT_ONCE:
            return next(iter(same))
        if len(same) >= self._most_of_address:
            old = (each for each in islice(same, _LOOKED_AT) if now - each.opened_at > self._grace_s)
            return next((each for each in old if not each.is_asking), None)
        return None

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)
        self._idle.pop(connection, None)
        self._forget_unknown(connection)

    def set_busy(self, connection: Connection) -> None:
        if connection in self._open:
            self._idle.pop(connection, None)
            self._forget_unknown(connection)

    def set_idle(self, connection: Connection) -> None:
        if connection in self._open:
            self._idle[connection] = None

    def _forget_unknown(self, connection: Connection) -> None:
        self._unknown.pop(connection, None)
        same = self._unknown_of.get(connection.address or "", {})
        same.pop(connection, None)
        if not same:
            self._unknown_of.pop(connection.address or "", None)

    def _close(self, connection: Connection) -> None:
        self.remove(connection)
        connection.close()
