"""Verification jobs: one engine at a time, one round after another, each round once, even if engines die."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coordinator.app import create_services
from coordinator.engine import verification
from coordinator.engine.aggregation import inputs
from coordinator.engine.sweeper import Sweeper
from coordinator.engine.verification import Verifier
from coordinator.services import Services
from coordinator.settings import EngineSettings, Settings
from shared.wire.verification import RoundVerification
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator
from tests.support.suite.tiers import POSTGRES

Enroll = Callable[..., ScriptedAgent]


def run_campaign(operator: Operator, folder: Path, enroll: Enroll, rounds: int = 3, **changes: Any) -> str:
    """Run a campaign of one agent to its end, with all updates retained."""
    agent = enroll("ada")
    body = {"selection": {"minimum": 1}, "retention": {"updates": rounds}, **changes}
    campaign_id = begin_campaign(operator, folder, [agent], rounds=rounds, **body)
    for number in range(rounds):
        agent.train(adapter_bytes(folder, number + 1.0))
    operator.wait_for(campaign_id, "completed")
    return campaign_id


def path_of(campaign_id: str) -> str:
    return f"/v1/campaigns/{campaign_id}/verifications"


def outcomes(job: dict[str, Any]) -> list[str]:
    return [each["outcome"] for each in job["outcomes"]]


class Gate:
    """Blocks the verification of one round until it is opened, and records which rounds were verified."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, holds: int | None = None) -> None:
        self.entered = threading.Event()
        self.verified: list[tuple[str, int]] = []
        self._holds = holds
        self._open = asyncio.Event()
        real = verification.verify_round

        async def verify_round(services: Services, campaign_id: str, number: int) -> RoundVerification:
            self.verified.append((campaign_id, number))
            if number == self._holds and not self.entered.is_set():
                self.entered.set()
                await self._open.wait()
            return await real(services, campaign_id, number)

        monkeypatch.setattr(verification, "verify_round", verify_round)

    @property
    def numbers(self) -> list[int]:
        return [number for _, number in self.verified]

    def open(self, running: RunningCoordinator) -> None:
        running.loop.call_soon_threadsafe(self._open.set)


def wait_until_done(operator: Operator, path: str) -> dict[str, Any]:
    found: dict[str, Any] = operator.wait_until(lambda: operator.get(path), lambda job: job["state"] == "done", 30)
    return found


# --- requests


def test_a_request_makes_one_job_however_often_it_is_sent(
    coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Enroll,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client repeats the request if a proxy cuts the reply."""
    campaign_id = run_campaign(operator, tmp_path, enroll)
    path, gate = path_of(campaign_id), Gate(monkeypatch, holds=1)
    replies = [operator.http.post(path) for _ in range(2)]
    assert gate.entered.wait(30)
    replies += [operator.http.post(path, json={"rounds": None}) for _ in range(2)]
    assert {reply.status_code for reply in replies} == {202}
    [location] = {reply.headers["Location"] for reply in replies}
    job = operator.get(location)
    assert (job["state"], job["n_done"], job["n_rounds"], outcomes(job)) == ("running", 1, 4, ["verified"])
    some = [operator.post(path, {"rounds": rounds})["id"] for rounds in ([2, 1], [1, 2, 2], [3])]
    assert some[0] == some[1]
    assert len({job["id"], *some}) == 3
    gate.open(coordinator)
    done = wait_until_done(operator, location)
    assert outcomes(done) == ["verified"] * 4
    assert [each["round"] for each in operator.get(location, after=1)["outcomes"]] == [2, 3]
    assert [each["round"] for each in operator.get(location, limit=1)["outcomes"]] == [0]
    assert [each["round"] for each in wait_until_done(operator, f"{path}/{some[0]}")["outcomes"]] == [1, 2]
    wait_until_done(operator, f"{path}/{some[2]}")
    assert [each["id"] for each in operator.all_items(path, limit=1)] == [some[2], some[0], job["id"]]
    assert gate.numbers[:4] == [0, 1, 2, 3]
    assert sorted(gate.numbers) == [0, 1, 1, 2, 2, 3, 3]
    assert operator.post(path)["id"] != job["id"], "a new request returned a job that has ended"


@pytest.mark.usefixtures("coordinator")
def test_invalid_requests_are_refused(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    campaign_id = run_campaign(operator, tmp_path, enroll, rounds=1)
    path = path_of(campaign_id)
    for body in ({"rounds": []}, {"rounds": [-1]}, {"rounds": [1] * 1001}, {"round": 1}):
        assert operator.http.post(path, json=body).status_code == 422
    for wrong in (path_of("nobody"), f"{path}/nobody", f"{path_of('nobody')}/{operator.post(path)['id']}"):
        assert problem(operator.http.get(wrong)).status == 404
    assert operator.http.post(path_of("nobody")).status_code == 404
    agent = ScriptedAgent(str(operator.http.base_url), operator.token(), "bob")
    assert agent.http.get(path).status_code == 403
    assert agent.http.post(path).status_code == 403
    agent.http.close()


def test_a_job_waits_for_an_engine_and_can_be_cancelled(
    coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Enroll,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign_id = run_campaign(operator, tmp_path, enroll)
    path, gate = path_of(campaign_id), Gate(monkeypatch, holds=1)
    first, second = (operator.post(path, body)["id"] for body in (None, {"rounds": [3]}))
    assert gate.entered.wait(30)
    assert operator.get(f"{path}/{second}")["state"] == "pending"
    cancelled = operator.post(f"{path}/{first}/cancel")
    assert (cancelled["state"], cancelled["n_done"]) == ("cancelled", 1)
    assert operator.http.post(f"{path}/{first}/cancel").status_code == 409
    gate.open(coordinator)
    assert outcomes(wait_until_done(operator, f"{path}/{second}")) == ["verified"]
    assert operator.get(f"{path}/{first}") == {**cancelled, "outcomes": operator.get(f"{path}/{first}")["outcomes"]}
    assert operator.get(f"{path}/{first}")["n_done"] == 1, "the outcome of a cancelled job's round was written"


# --- concurrent events


def test_rounds_rolled_back_during_a_verification_are_reported_as_such(
    coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Enroll,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign_id = run_campaign(operator, tmp_path, enroll)
    gate = Gate(monkeypatch, holds=2)
    location = f"{path_of(campaign_id)}/{operator.post(path_of(campaign_id))['id']}"
    assert gate.entered.wait(30)
    digests = [row["blob"]["sha256"] for row in operator.items(f"/v1/campaigns/{campaign_id}/adapters")]
    operator.post(f"/v1/campaigns/{campaign_id}/rollback", {"round": 1})
    gate.open(coordinator)
    done = wait_until_done(operator, location)
    assert outcomes(done) == ["verified", "verified", "rolled-back", "rolled-back"]
    assert [each["adapter_sha256"] for each in done["outcomes"]] == digests
    assert "rolled back" in done["outcomes"][3]["reason"]


def test_a_verification_keeps_no_round_waiting(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one aggregation thread, and the verification computes for as long as the test wants."""
    settings = quick_settings(data_dir, None)
    engine = settings.engine.model_copy(update={"campaigns_at_once": 1})
    computing, go_on, aggregate = threading.Event(), threading.Event(), inputs.aggregate

    def held(*arguments: Any, measures_gap: bool, **named: Any) -> Any:
        if not measures_gap:  # a verification
            computing.set()
            assert go_on.wait(60)
        return aggregate(*arguments, measures_gap=measures_gap, **named)

    monkeypatch.setattr(inputs, "aggregate", held)
    with running_coordinator(settings.model_copy(update={"engine": engine})) as running:
        operator = Operator(running.url, running.key)
        agent = ScriptedAgent(running.url, operator.token(), "ada")
        settings_of_campaign = {"selection": {"minimum": 1}, "retention": {"updates": 9}}
        campaign_id = begin_campaign(operator, tmp_path, [agent], rounds=3, **settings_of_campaign)
        agent.train(adapter_bytes(tmp_path, 1.0))
        operator.wait_until(lambda: operator.get(f"/v1/campaigns/{campaign_id}"), lambda found: found["rounds_closed"])
        location = f"{path_of(campaign_id)}/{operator.post(path_of(campaign_id))['id']}"
        try:
            assert computing.wait(30)
            for fill in (2.0, 3.0):
                agent.train(adapter_bytes(tmp_path, fill))
            assert operator.wait_for(campaign_id, "completed", timeout_s=30)["rounds_closed"] == 3
            assert outcomes(operator.get(location)) == ["verified"]
        finally:
            go_on.set()
        assert outcomes(wait_until_done(operator, location)) == ["verified", "verified"]
        agent.http.close()


def test_an_unexpected_error_is_shown_and_tried_again(
    coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Enroll,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign_id = run_campaign(operator, tmp_path, enroll)
    gate, real, failures = Gate(monkeypatch), verification.verify_round, iter([ValueError("odd"), None, None, None])

    async def failing(services: Services, campaign_id: str, number: int) -> RoundVerification:
        if number == 1 and (error := next(failures)) is not None:
            raise error
        return await real(services, campaign_id, number)

    monkeypatch.setattr(verification, "verify_round", failing)
    path = path_of(campaign_id)
    stuck, other = (operator.post(path, body)["id"] for body in (None, {"rounds": [3]}))
    wait_until_done(operator, f"{path}/{other}")
    found = operator.get(f"{path}/{stuck}")
    assert (found["state"], found["n_done"]) == ("running", 1)
    assert found["reason"] == "the engine failed at round 1 and tries again: ValueError"
    coordinator.clock.move(verification.RETRY_S + 1)
    done = wait_until_done(operator, f"{path}/{stuck}")
    assert (outcomes(done), done["reason"]) == (["verified"] * 4, None)
    assert gate.numbers == [0, 3, 1, 2, 3]


def test_a_round_that_fails_each_time_holds_up_no_other(
    coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Enroll,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign_id = run_campaign(operator, tmp_path, enroll)
    real = verification.verify_round

    async def failing(services: Services, campaign_id: str, number: int) -> RoundVerification:
        if number == 1:
            raise ValueError("odd")
        return await real(services, campaign_id, number)

    monkeypatch.setattr(verification, "verify_round", failing)
    monkeypatch.setattr(verification, "RETRY_S", 0.01)
    path = path_of(campaign_id)
    done = wait_until_done(operator, f"{path}/{operator.post(path, None)['id']}")
    assert outcomes(done) == ["verified", "failed", "verified", "verified"]
    assert done["outcomes"][1]["reason"] == "ValueError"


def test_bytes_that_cannot_be_read_are_corrupt(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """A folder in the place of an update's file."""
    campaign_id = run_campaign(operator, tmp_path, enroll, retention={"updates": 9})
    [share, *_] = operator.get(f"/v1/campaigns/{campaign_id}/adapters/2")["contributions"]
    [file] = coordinator.services.settings.data_dir.glob(f"updates/*/{share['update_sha256']}")
    file.unlink()
    file.mkdir()
    path = path_of(campaign_id)
    done = wait_until_done(operator, f"{path}/{operator.post(path, {'rounds': [2]})['id']}")
    assert outcomes(done) == ["corrupt"]
    assert done["outcomes"][0]["reason"] == "its inputs cannot be read: Is a directory"


def test_an_error_of_the_engines_own_files_is_no_finding(
    coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Enroll,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign_id = run_campaign(operator, tmp_path, enroll, retention={"updates": 9})
    monkeypatch.setattr(verification, "RETRY_S", 0.5)
    scratch = coordinator.services.storage.scratch
    moved = scratch.rename(tmp_path / "moved")
    scratch.write_text("not a folder")
    path = path_of(campaign_id)
    job = f"{path}/{operator.post(path, {'rounds': [2]})['id']}"
    operator.wait_until(lambda: operator.get(job), lambda found: found["reason"], 30)
    scratch.unlink()
    moved.rename(scratch)
    assert outcomes(wait_until_done(operator, job)) == ["verified"]


def test_old_jobs_are_deleted(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    campaign_id = run_campaign(operator, tmp_path, enroll, rounds=1)
    path = path_of(campaign_id)
    wait_until_done(operator, f"{path}/{operator.post(path)['id']}")
    for days, left in ((29, 1), (2, 0)):
        coordinator.clock.move(days * 86400)
        coordinator.run(Sweeper(coordinator.services).sweep())
        assert len(operator.items(path)) == left


# --- engines


@contextmanager
def verifiers(running: RunningCoordinator, n: int) -> Iterator[None]:
    """Verifiers with their own connections and notifiers, as in other processes."""

    async def start() -> list[tuple[asyncio.Task[None], Services]]:
        others = [create_services(running.services.settings, running.clock) for _ in range(n)]
        return [
            (asyncio.create_task(Verifier(each, f"engine-{number}").run()), each) for number, each in enumerate(others)
        ]

    async def stop() -> None:
        for task, services in started:
            await services.database.cancel(task)
            await services.close()

    started = running.run(start())
    try:
        yield
    finally:
        running.run(stop())


def test_after_an_engine_dies_another_continues_with_the_next_round(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead engine wakes up when the job is done, as after a suspension, and changes nothing."""
    with running_coordinator(quick_settings(data_dir, None)) as running:
        operator = Operator(running.url, running.key)
        agents = [ScriptedAgent(running.url, operator.token(), "ada")]
        campaign_id = run_campaign(operator, tmp_path, lambda _: agents[0])
        agents[0].http.close()
    gate = Gate(monkeypatch, holds=2)
    with running_coordinator(quick_settings(data_dir, None), with_engine=False) as running:
        operator = Operator(running.url, running.key)
        job = operator.post(path_of(campaign_id))
        location = f"{path_of(campaign_id)}/{job['id']}"
        old, new = Verifier(running.services, "old"), Verifier(running.services, "new")

        async def work(verifier: Verifier) -> bool:
            claim = await verifier._claim()
            if claim is not None:
                await verifier._work(claim)
            return claim is not None

        lost: Future[bool] = asyncio.run_coroutine_threadsafe(work(old), running.loop)
        assert gate.entered.wait(30)
        assert not running.run(work(new)), "two engines work on one job"
        assert outcomes(operator.get(location)) == ["verified", "verified"]
        running.clock.move(61)
        assert running.run(work(new))
        done = operator.get(location)
        assert (done["state"], outcomes(done)) == ("done", ["verified"] * 4)
        assert gate.numbers == [0, 1, 2, 2, 3]
        gate.open(running)
        assert lost.result(30)
        assert operator.get(location) == done


def test_the_next_engine_on_the_same_folder_need_not_wait_for_the_claim(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_coordinator(quick_settings(data_dir, None)) as running:
        operator = Operator(running.url, running.key)
        agent = ScriptedAgent(running.url, operator.token(), "ada")
        campaign_id = run_campaign(operator, tmp_path, lambda _: agent)
        agent.http.close()
        name = (data_dir / "engine").read_text()
    with running_coordinator(quick_settings(data_dir, None), with_engine=False) as running:
        job = Operator(running.url, running.key).post(path_of(campaign_id))
        claim = running.run(Verifier(running.services, name)._claim())
        assert claim is not None
        assert claim.job_id == job["id"]
    with running_coordinator(quick_settings(data_dir, None)) as running:
        operator = Operator(running.url, running.key)
        assert outcomes(wait_until_done(operator, f"{path_of(campaign_id)}/{job['id']}")) == ["verified"] * 4


@pytest.mark.parametrize("database_url", [POSTGRES], indirect=True)
def test_several_engines_verify_each_round_once(
    data_dir: Path, database_url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = EngineSettings(poll_s=0.02, sweep_s=1.0)
    settings: Settings = quick_settings(data_dir, database_url).model_copy(update={"engine": engine})
    with running_coordinator(settings) as running:
        operator = Operator(running.url, running.key)
        agent = ScriptedAgent(running.url, operator.token(), "ada")
        campaigns = [run_campaign(operator, tmp_path, lambda _: agent) for _ in range(3)]
        agent.http.close()
        gate = Gate(monkeypatch)
        with verifiers(running, 3):
            locations = [
                f"{path_of(campaign_id)}/{operator.post(path_of(campaign_id), body)['id']}"
                for body in (None, {"rounds": [1, 2, 3]}, {"rounds": [2, 3]})
                for campaign_id in campaigns
            ]
            found = [wait_until_done(operator, location) for location in locations]
        assert {outcome for job in found for outcome in outcomes(job)} == {"verified"}
        counted = Counter(gate.verified)
        times = {0: 1, 1: 2, 2: 3, 3: 3}
        assert counted == {(campaign_id, number): n for campaign_id in campaigns for number, n in times.items()}
