"""Verification jobs: requests, concurrent events, errors and findings."""

import threading
from pathlib import Path
from typing import Any

import pytest

from coordinator.engine import verification
from coordinator.engine.aggregation import inputs
from coordinator.engine.sweeper import Sweeper
from coordinator.services import Services
from shared.wire.verification import RoundVerification
from tests.coordinator.engine.verifications import Enroll, Gate, outcomes, path_of, run_campaign, wait_until_done
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator

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
        settings_of_campaign = {"selection": {"minimum": 1}, "retention": {"updates": 9}, "evaluation": {"every": 1}}
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
