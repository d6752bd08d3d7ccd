"""Agents in this process and a campaign whose algorithm has client state, for tests that disturb and check it."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from agent.network.api import CoordinatorApi
from coordinator.database.tables import AdapterRow, ParticipantRow
from shared.adapters.files import AdapterFile
from shared.wire.agents import OwnCampaigns
from shared.wire.tasks.assignments import TrainAssignment
from shared.wire.tasks.leases import TaskLease
from shared.wire.tasks.results import Result
from tests.agent.parts import Home
from tests.support.operator import Operator
from tests.support.scripted import campaign_body
from tests.support.server import RunningCoordinator
from tests.support.stored import stored_bytes

Tensors = dict[str, np.ndarray]
Send = Callable[[], Awaitable[None]]
Mishap = Callable[[TrainAssignment, Result, Send], Awaitable[None]]

ROWS = {"ada": 10, "bob": 30, "cyd": 60}
DEADLINE_S = 1000.0


class Killed(Exception):
    """Stands for kill -9: the agent does nothing after it."""


class Federation:
    """Agents and a campaign.

    homes and rows are indexed by client number, so agents must be enrolled in that order. mishaps maps (round, client
    number) to what happens instead of sending the result.
    """

    def __init__(
        self,
        coordinator: RunningCoordinator,
        operator: Operator,
        new_home: Callable[[str], Home],
        stack: ExitStack,
    ) -> None:
        self.coordinator, self.operator = coordinator, operator
        self.homes: list[Home] = []
        self.rows: list[int] = []
        self.mishaps: dict[tuple[int, int], Mishap] = {}
        self.tasks: list[TrainAssignment] = []
        self.campaign_id = ""
        self._new_home, self._stack = new_home, stack

    def enroll(self, name: str, n_rows: int) -> Home:
        home = self._new_home(name)
        (home.folder / "notes.jsonl").write_text("{}\n" * n_rows)
        self.homes.append(home)
        self.rows.append(n_rows)
        return home

    def join(self, name: str, n_rows: int) -> None:
        """Enrol and start one more agent."""
        self._stack.enter_context(self.enroll(name, n_rows).running())

    def start(self, **changes: Any) -> None:
        for home in self.homes:
            self._stack.enter_context(home.running())
        body = campaign_body(
            **{
                "rounds": 4,
                "algorithm": {"name": "scaffold"},
                "training": {"steps": 2, "batch_size": 2, "learning_rate": 0.1},
                "deadline": {"round_s": DEADLINE_S},
                **changes,
            }
        )
        self.campaign_id = self.operator.post("/v1/campaigns", body)["id"]

    def complete(self) -> None:
        self.operator.wait_for(self.campaign_id, "completed", timeout_s=180)

    def client_states(self, client: int) -> dict[str, Path]:
        """The files of client state in a client's home, by the digest of the delta they belong to."""
        return self._kept("client_state", client)

    def residuals(self, client: int) -> dict[str, Path]:
        """The files of what rounding took from a client's updates, by the digest of the delta they belong to."""
        return self._kept("residuals", client)

    def _kept(self, folder: str, client: int) -> dict[str, Path]:
        return {path.name: path for path in (self.homes[client].folder / folder / self.campaign_id).glob("*")}

    def wait_until_closed(self, number: int) -> None:
        path = f"/v1/campaigns/{self.campaign_id}"
        self.operator.wait_until(lambda: self.operator.get(path), lambda campaign: campaign["rounds_closed"] >= number)

    def contributors(self, number: int) -> list[str]:
        adapter = self.operator.get(f"/v1/campaigns/{self.campaign_id}/adapters/{number}")
        return [share["agent_name"] for share in adapter["contributions"]]

    def restarts(self) -> list[dict[str, Any]]:
        events = self.operator.items(f"/v1/campaigns/{self.campaign_id}/events")
        return [event["data"] for event in events if event["type"] == "algorithm-restarted"]

    def check_sum(self, *, uniform: bool = False) -> None:
        """Check that c = Σ q_k c_k after the last round, but for what rounding has taken from the last extras that
        counted."""
        state, committed = self.coordinator.run(self._state_and_committed())
        assert state is not None
        c = self._read(stored_bytes(self.coordinator, state) or b"", "c")
        rows = [1] * len(self.rows) if uniform else self.rows
        total = {name: np.zeros(values.shape) for name, values in c.items()}
        for client, digest in enumerate(committed):
            if digest is not None:
                c_k = self._read(self.client_states(client)[digest].read_bytes(), "c_k")
                residual = self.residuals(client).get(digest)
                left = self._read(residual.read_bytes(), "delta_c") if residual is not None else {}
                for name in total:
                    sent = c_k[name].astype(np.float64) - left.get(name, 0.0)
                    total[name] += rows[client] / sum(rows) * sent
        for name, values in c.items():
            assert np.abs(values).max() > 0.01
            np.testing.assert_allclose(values, total[name], rtol=0, atol=1e-6)

    def _read(self, data: bytes, slot: str) -> Tensors:
        path = self.homes[0].folder / "tensors"
        path.write_bytes(data)
        with AdapterFile(path) as file:
            return {name.removeprefix(f"{slot}/"): file.read(name).copy() for name in file.tensors}

    async def _state_and_committed(self) -> tuple[str | None, list[str | None]]:
        async with self.coordinator.services.database.read() as session:
            last = select(AdapterRow.state_sha256).where(AdapterRow.campaign_id == self.campaign_id)
            state = await session.scalar(last.order_by(AdapterRow.number.desc()).limit(1))
            clients = select(ParticipantRow).where(ParticipantRow.campaign_id == self.campaign_id)
            rows = (await session.scalars(clients.order_by(ParticipantRow.client_number))).all()
            return state, [row.committed_update_sha256 for row in rows]


@contextmanager
def federation_of(
    coordinator: RunningCoordinator,
    operator: Operator,
    new_home: Callable[[str], Home],
    monkeypatch: pytest.MonkeyPatch,
    rows: Mapping[str, int],
) -> Iterator[Federation]:
    """Enrols agents by name, each with its number of rows."""
    put_result = CoordinatorApi.put_result

    async def send(api: CoordinatorApi, lease: TaskLease, result: Result) -> OwnCampaigns:
        if isinstance(lease.assignment, TrainAssignment):
            federation.tasks.append(lease.assignment)
            mishap = federation.mishaps.pop((lease.assignment.round, lease.assignment.client_number), None)
            if mishap is not None:
                told = [OwnCampaigns(campaigns=[])]

                async def put() -> None:
                    told.append(await put_result(api, lease, result))

                await mishap(lease.assignment, result, put)
                return told[-1]
        return await put_result(api, lease, result)

    monkeypatch.setattr(CoordinatorApi, "put_result", send)
    with ExitStack() as stack:
        federation = Federation(coordinator, operator, new_home, stack)
        for name, n_rows in rows.items():
            federation.enroll(name, n_rows)
        yield federation
