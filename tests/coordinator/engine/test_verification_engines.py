"""Engines of verification jobs: one continues where another died, and each round is verified once."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator.app import create_services
from coordinator.engine.verification import Verifier
from coordinator.services import Services
from coordinator.settings import EngineSettings, Settings
from tests.coordinator.engine.verifications import Gate, outcomes, path_of, run_campaign, wait_until_done
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator
from tests.support.suite.tiers import POSTGRES


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
