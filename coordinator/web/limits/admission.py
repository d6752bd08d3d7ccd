"""Which requests are answered now: limits for addresses without a valid key, and for each agent."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.requests import Request

from coordinator.errors import TooManyRequests
from coordinator.settings import LimitSettings
from coordinator.web.limits.rates import Buckets, address_key

PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that supervisors ask, and that are answered however often their address was refused."""
_BURST_S = 10.0
"""Seconds over which an agent's requests are averaged."""
_ENROLLMENTS_AT_ONCE = 8
_LOOKUPS_AT_ONCE = 2
_KNOWN_KEYS = 20_000


class Admission:
    """The limits of one process."""

    def __init__(self, limits: LimitSettings) -> None:
        self._refused = Buckets(limits.refused_per_minute / 60, limits.refused_per_minute)
        self._asked = Buckets(limits.agent_requests_per_s, limits.agent_requests_per_s * _BURST_S)
        self._most_at_once = limits.agent_requests_at_once
        self._at_once: Counter[str] = Counter()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._strangers = asyncio.Semaphore(_LOOKUPS_AT_ONCE)
        self.enrolling = asyncio.Semaphore(_ENROLLMENTS_AT_ONCE)
        """Enrolments at the same time; the others wait."""
        self.probing = asyncio.Lock()
        """Held while the database is asked whether it answers."""

    def check_address(self, host: str) -> None:
        """Raise TooManyRequests if an address without a valid key was refused too often."""
        wait_s = self._refused.wait_s(address_key(host))
        if wait_s:
            reason = "too many requests from this address were refused (enrolment, or a key that is missing or unknown)"
            raise TooManyRequests(reason, wait_s)

    def check_stranger(self, request: Request) -> None:
        """Raise TooManyRequests for a request whose caller was not found, unless it is a supervisor's."""
        if not hasattr(request.state, "caller") and request.scope["path"] not in PROBES:
            self.check_address(host_of(request))

    def note_refused(self, host: str) -> None:
        """Count a refused request without a valid key."""
        self._refused.charge(address_key(host))

    @contextmanager
    def of_agent(self, agent_id: str) -> Iterator[None]:
        """Count a request of an agent while the block runs. Raises TooManyRequests."""
        wait_s = self._asked.wait_s(agent_id)
        if wait_s:
            raise TooManyRequests("this agent sends too many requests", wait_s)
        if self._at_once[agent_id] >= self._most_at_once:
            raise TooManyRequests(f"this agent has {self._most_at_once} requests in progress", 1)
        self._asked.charge(agent_id)
        self._at_once[agent_id] += 1
        try:
            yield
        finally:
            self._at_once[agent_id] -= 1
            if not self._at_once[agent_id]:
                del self._at_once[agent_id]

    @asynccontextmanager
    async def lookup(self, digest: str) -> AsyncIterator[None]:
        """Wait until a key may be looked up: at once if it was valid before, else behind other such look-ups.

        So guesses delay other guesses and never the callers who are known.
        """
        if digest in self._known:
            yield
            return
        async with self._strangers:
            yield

    def note_valid(self, digest: str) -> None:
        """Remember that a key was valid. It is looked up again all the same: it may be revoked."""
        self._known[digest] = None
        self._known.move_to_end(digest)
        if len(self._known) > _KNOWN_KEYS:
            self._known.popitem(last=False)


def host_of(request: Request) -> str:
    """The address that a request comes from."""
    return request.client.host if request.client else ""
