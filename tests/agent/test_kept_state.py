"""What SCAFFOLD has clients keep, c_k, through all that can happen to an update.

The server's c is Σ q_k c_k over all clients, each c_k being the one that belongs to the update of that client which
counted last. Whatever happens, that holds to the accuracy of float32; it is checked against the files in the agents'
homes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from agent.api import CoordinatorApi
from coordinator.tables import AdapterRow, ParticipantRow
from shared.adapters import AdapterFile, slot_name, write_adapter
from shared.wire.jobs import Result, TrainJob
from shared.wire.leases import TaskLease
from tests.agent.parts import Home
from tests.agent.test_agent import record
from tests.support.operator import Operator
from tests.support.processes import wait_until
from tests.support.scripted import campaign_body
from tests.support.server import RunningCoordinator

Tensors = dict[str, np.ndarray]
Send = Callable[[], Awaitable[None]]
Mishap = Callable[[TrainJob, Result, Send], Awaitable[None]]

ROWS = {"ada": 10, "bob": 30, "cyd": 60}
DEADLINE_S = 1000.0


class Killed(Exception):
    """Stands for kill -9: the agent does nothing more."""


class Federation:
    """Three agents and a campaign. mishaps: by round and client number, what happens in place of sending the result."""

    def __init__(
        self, coordinator: RunningCoordinator, operator: Operator, homes: list[Home], stack: ExitStack
    ) -> None:
        self.coordinator, self.operator, self.homes = coordinator, operator, homes
        self.mishaps: dict[tuple[int, int], Mishap] = {}
        self.jobs: list[TrainJob] = []
        self.campaign_id = ""
        self._stack = stack

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

    def kept(self, client: int) -> dict[str, Path]:
        """What a client has in its home, by the delta that it belongs to."""
        folder = self.homes[client].folder / "kept" / self.campaign_id
        return {path.name: path for path in folder.iterdir()}

    def wait_until_closed(self, number: int) -> None:
        path = f"/v1/campaigns/{self.campaign_id}"
        self.operator.wait_until(lambda: self.operator.get(path), lambda found: found["rounds_closed"] >= number)

    def contributors(self, number: int) -> list[str]:
        adapter = self.operator.get(f"/v1/campaigns/{self.campaign_id}/adapters/{number}")
        return [share["agent_name"] for share in adapter["contributions"]]

    def restarts(self) -> list[dict[str, Any]]:
        found = self.operator.items(f"/v1/campaigns/{self.campaign_id}/events")
        return [event["data"] for event in found if event["type"] == "algorithm-restarted"]

    def check_sum(self, *, uniform: bool = False) -> None:
        """c = Σ q_k c_k, at the end."""
        state, counted = self.coordinator.run(self._state_and_counted())
        assert state is not None
        c = self._read(self.operator.http.get(f"/v1/blobs/{state}").content, "c")
        rows = [1] * len(ROWS) if uniform else list(ROWS.values())
        total = {name: np.zeros(values.shape) for name, values in c.items()}
        for client, digest in enumerate(counted):
            if digest is not None:
                c_k = self._read(self.kept(client)[digest].read_bytes(), "c_k")
                for name in total:
                    total[name] += rows[client] / sum(rows) * c_k[name].astype(np.float64)
        for name, values in c.items():
            assert np.abs(values).max() > 0.01
            np.testing.assert_allclose(values, total[name], rtol=0, atol=1e-6)

    def _read(self, data: bytes, slot: str) -> Tensors:
        path = self.homes[0].folder / "tensors"
        path.write_bytes(data)
        with AdapterFile(path) as file:
            return {name.removeprefix(f"{slot}/"): file.read(name).copy() for name in file.tensors}

    async def _state_and_counted(self) -> tuple[str | None, list[str | None]]:
        async with self.coordinator.services.database.read() as session:
            last = select(AdapterRow.state_sha256).where(AdapterRow.campaign_id == self.campaign_id)
            state = await session.scalar(last.order_by(AdapterRow.number.desc()).limit(1))
            clients = select(ParticipantRow).where(ParticipantRow.campaign_id == self.campaign_id)
            rows = (await session.scalars(clients.order_by(ParticipantRow.client_number))).all()
            return state, [row.counted_sha256 for row in rows]


@pytest.fixture
def federation(
    coordinator: RunningCoordinator,
    operator: Operator,
    new_home: Callable[[str], Home],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Federation]:
    homes = [new_home(name) for name in ROWS]
    for home, n_rows in zip(homes, ROWS.values(), strict=True):
        (home.folder / "notes.jsonl").write_text("{}\n" * n_rows)
    put_result = CoordinatorApi.put_result

    async def send(api: CoordinatorApi, lease: TaskLease, result: Result) -> None:
        if isinstance(lease.job, TrainJob):
            made.jobs.append(lease.job)
            mishap = made.mishaps.pop((lease.job.round, lease.job.client_number), None)
            if mishap is not None:
                await mishap(lease.job, result, lambda: put_result(api, lease, result))
                return
        await put_result(api, lease, result)

    monkeypatch.setattr(CoordinatorApi, "put_result", send)
    with ExitStack() as stack:
        made = Federation(coordinator, operator, homes, stack)
        yield made


@pytest.mark.parametrize("by", ["examples", "uniform"])
def test_c_is_the_weighted_mean_of_what_the_clients_keep(federation: Federation, by: str) -> None:
    federation.start(weighting={"by": by})
    federation.complete()
    federation.check_sum(uniform=by == "uniform")
    assert {job.counted is None for job in federation.jobs if job.round == 1} == {True}
    assert {job.counted is None for job in federation.jobs if job.round > 1} == {False}
    assert federation.restarts() == []


def test_clients_that_sit_out_rounds_go_on_from_their_last_one(federation: Federation) -> None:
    federation.start(rounds=7, selection={"minimum": 2, "clients_per_round": 2})
    federation.complete()
    assert len({tuple(federation.contributors(number)) for number in range(1, 8)}) > 1
    federation.check_sum()
    assert federation.restarts() == []


def test_an_update_that_is_refused_leaves_the_kept_one_in_place(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(monkeypatch, nan_in=[[2, 1], [3, 1]])
    federation.start()
    federation.complete()
    assert [federation.contributors(number) for number in (1, 2, 3, 4)] == [
        ["ada", "bob", "cyd"],
        ["ada", "cyd"],
        ["ada", "cyd"],
        ["ada", "bob", "cyd"],
    ]
    federation.check_sum()
    assert federation.restarts() == []


def test_a_late_update_leaves_the_kept_one_in_place(federation: Federation) -> None:
    async def come_late(job: TrainJob, result: Result, send: Send) -> None:
        federation.coordinator.clock.move(DEADLINE_S + 1)
        await asyncio.to_thread(federation.wait_until_closed, job.round)
        await send()

    async def after_the_others(job: TrainJob, result: Result, send: Send) -> None:
        def others_are_done() -> bool:
            path = f"/v1/campaigns/{federation.campaign_id}/tasks"
            done = federation.operator.items(path, state="done", round=job.round)
            return len([task for task in done if task["kind"] == "train"]) == 2

        await asyncio.to_thread(wait_until, others_are_done, "the others")
        await come_late(job, result, send)

    federation.mishaps = {(2, 1): after_the_others, (3, 2): after_the_others}
    federation.start()
    federation.complete()
    assert [federation.contributors(number) for number in (2, 3)] == [["ada", "cyd"], ["ada", "bob"]]
    federation.check_sum()
    assert federation.restarts() == []


def test_an_update_that_came_during_a_pause_counts(federation: Federation) -> None:
    async def pause(job: TrainJob, result: Result, send: Send) -> None:
        assert federation.operator.campaign(federation.campaign_id, "pause").is_success
        await send()
        assert federation.operator.campaign(federation.campaign_id, "resume").is_success

    federation.mishaps = {(2, 0): pause, (3, 2): pause}
    federation.start()
    federation.complete()
    assert len(federation.contributors(2)) == len(federation.contributors(3)) == 3
    federation.check_sum()
    assert federation.restarts() == []


@pytest.mark.parametrize("back_to", [3, 1])
def test_what_belongs_to_an_undone_round_is_not_gone_on_from(federation: Federation, back_to: int) -> None:
    """The campaign goes back to an earlier round while bob's update of round 4 is on its way."""
    undone: list[TrainJob] = []

    async def roll_back(job: TrainJob, result: Result, send: Send) -> None:
        undone.extend(federation.jobs)
        federation.jobs.clear()
        path = f"/v1/campaigns/{federation.campaign_id}"
        federation.operator.post(f"{path}/rollback", {"round": back_to})
        federation.operator.post(f"{path}/resume")
        await send()

    federation.mishaps = {(4, 1): roll_back}
    federation.start(rounds=6)
    federation.complete()
    federation.check_sum()
    assert federation.restarts() == []  # the agents have what belongs to their older deltas
    counted = {(job.round, job.client_number): job.counted for job in undone}
    again = [job for job in federation.jobs if (job.round, job.client_number) in counted and job.round == back_to + 1]
    assert again
    assert all(job.counted == counted[job.round, job.client_number] for job in again)


@pytest.mark.parametrize("was_accepted", [False, True])
def test_an_agent_that_is_killed_as_it_sends_its_result_goes_on(federation: Federation, was_accepted: bool) -> None:
    async def die(job: TrainJob, result: Result, send: Send) -> None:
        if was_accepted:
            await send()
        raise Killed

    federation.mishaps = {(2, 1): die}
    federation.start()
    bob = federation.homes[1]
    wait_until(lambda: bob.error, "bob's end")
    assert isinstance(bob.error, Killed)
    with bob.running():
        federation.complete()
    assert len(federation.contributors(2)) == 3
    federation.check_sum()
    assert federation.restarts() == []


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def of_another_model(path: Path) -> None:
    write_adapter(path, {slot_name("c_k", "a.lora_A.weight"): np.ones((2, 2), dtype=np.float32)})


@pytest.mark.parametrize("spoil", [Path.unlink, truncated, of_another_model])
def test_where_a_client_lost_its_part_all_start_again(federation: Federation, spoil: Callable[[Path], None]) -> None:
    async def lose(job: TrainJob, result: Result, send: Send) -> None:
        assert result.kind == "train"
        spoil(federation.kept(job.client_number)[result.delta])  # it was kept before the result leaves
        await send()

    federation.mishaps = {(2, 1): lose}
    federation.start(rounds=5)
    federation.complete()
    assert federation.restarts() == [{"round": 3, "lost_state": ["bob"]}]
    adapters = federation.operator.items(f"/v1/campaigns/{federation.campaign_id}/adapters")
    lost = [[share["lost_state"] for share in adapter["contributions"]] for adapter in adapters]
    assert lost == [[], [False] * 3, [False] * 3, [False, True, False], [False] * 3, [False] * 3]
    for job in federation.jobs:
        starts = job.round in (1, 4)
        assert (job.counted is None, job.broadcast is None) == (starts, starts), job.round
    federation.check_sum()
    log = (federation.homes[1].folder / "sent.jsonl").read_text()
    assert log.count('"lost_state": true') == 1


def test_mishaps_together(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sitting out, refused, undone and lost, in one campaign."""

    async def roll_back(job: TrainJob, result: Result, send: Send) -> None:
        for client in range(3):
            federation.mishaps.pop((8, client), None)
        path = f"/v1/campaigns/{federation.campaign_id}"
        federation.operator.post(f"{path}/rollback", {"round": 4})
        federation.operator.post(f"{path}/resume")
        await send()

    async def lose(job: TrainJob, result: Result, send: Send) -> None:
        assert result.kind == "train"
        federation.kept(job.client_number)[result.delta].unlink()
        await send()

    record(monkeypatch, nan_in=[[3, 0], [6, 2], [9, 1]])
    federation.mishaps = {(8, client): roll_back for client in range(3)} | {(10, 0): lose, (10, 1): lose}
    federation.start(rounds=14, selection={"minimum": 1, "clients_per_round": 2}, retention={"server_state": 4})
    federation.complete()
    federation.check_sum()
    assert federation.restarts()
    assert federation.homes[0].error is federation.homes[1].error is federation.homes[2].error is None
    assert all(len(federation.kept(client)) <= 5 for client in range(3))
