"""Many agents behind one address, beside somebody there who has no key."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from coordinator.clock import SystemClock
from coordinator.database.ids import new_id
from coordinator.database.tables import AgentRow
from coordinator.settings import LimitSettings, Settings
from shared.credentials import AGENT_PREFIX, hash_secret, new_secret
from shared.states import AgentState
from tests.support.operator import Operator
from tests.support.server import RunningCoordinator, quick_settings

ATTACKERS = 4


@pytest.fixture
def settings_of() -> Callable[[Path, str | None], Settings]:
    """Time for the clients: all of them and the coordinator share one process here, and stand still together."""
    return partial(quick_settings, limits=LimitSettings(refused_per_minute=60, header_s=60, keep_alive_s=60))


async def register(coordinator: RunningCoordinator, number: int) -> list[str]:
    """Insert agents into the database. Returns their secrets."""
    now = SystemClock().now()
    secrets = [new_secret(AGENT_PREFIX) for _ in range(number)]
    async with coordinator.services.database.write("test") as session:
        for index, secret in enumerate(secrets):
            session.add(
                AgentRow(
                    id=new_id(now),
                    name=f"agent-{index}",
                    labels={},
                    state=AgentState.ACTIVE,
                    secret_hash=hash_secret(secret),
                    version="test",
                    created_at=now,
                )
            )
    return secrets


async def wait_for_work(url: str, secret: str) -> list[int]:
    """Ask for work as an agent does, over a connection of its own: twice, waiting a while for it."""
    headers = {"Authorization": f"Bearer {secret}", "Prefer": "wait=3"}
    body = {"instance_id": "12345678", "version": "test"}
    async with httpx.AsyncClient(base_url=url, timeout=60, verify=False, trust_env=False) as http:
        return [(await http.post("/v1/leases", json=body, headers=headers)).status_code for _ in range(2)]


class Flood:
    """Requests without a valid key, as fast as they are answered, until it is over."""

    def __init__(self) -> None:
        self.over = False
        self.statuses: set[int] = set()

    async def run(self, http: httpx.AsyncClient) -> None:
        requests = (
            {"method": "GET", "url": "/v1/campaigns"},
            {"method": "POST", "url": "/v1/leases", "headers": {"Authorization": f"Bearer {new_secret(AGENT_PREFIX)}"}},
            {"method": "POST", "url": "/v1/enrollments", "content": b"{" * 100_000},
            {"method": "POST", "url": "/v1/enrollments", "json": {"token": "fle_guess"}},
            {"method": "GET", "url": "/nothing"},
        )
        while not self.over:
            for each in requests:
                with contextlib.suppress(httpx.TransportError):  # it had to make room for an agent
                    self.statuses.add((await http.request(**each)).status_code)  # type: ignore[arg-type]


@pytest.mark.parametrize("n_agents", [20, pytest.param(1000, marks=pytest.mark.soak)])
def test_all_are_answered_while_somebody_at_their_address_floods(
    coordinator: RunningCoordinator, operator: Operator, n_agents: int
) -> None:
    secrets = coordinator.run(register(coordinator, n_agents))
    flood = Flood()

    async def all_agents() -> list[list[int]]:
        async with httpx.AsyncClient(base_url=coordinator.url, timeout=60, verify=False) as attackers:
            floods = [asyncio.create_task(flood.run(attackers)) for _ in range(ATTACKERS)]
            try:
                return await asyncio.gather(*(wait_for_work(coordinator.url, secret) for secret in secrets))
            finally:
                flood.over = True
                await asyncio.gather(*floods)

    answered = asyncio.run(all_agents())
    assert answered == [[204, 204]] * n_agents
    assert flood.statuses == {401, 404, 413, 422, 429}
    assert operator.http.get("/v1/campaigns").status_code == 200
