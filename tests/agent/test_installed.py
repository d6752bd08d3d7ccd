"""The client half of a job's algorithm: what needs no plug-in, and what an agent without the plug-in answers."""

from typing import Any

import pytest

from agent.errors import TaskFailed
from agent.installed import check_installed, load_client
from shared import algorithms
from shared.algorithms import ClientHalf, scaffold
from shared.wire.tasks.leases import FailureKind
from tests.agent.jobs import evaluate_job, init_job, prepare_job, train_job

FAR = {"algorithm": "far", "plain_client": False}
OWN_HALF = [prepare_job(**FAR), train_job(**FAR)]
PLAIN = [prepare_job(algorithm="far"), train_job(algorithm="far", algorithm_params={"unknown": [1]})]


@pytest.mark.parametrize("job", OWN_HALF, ids=lambda job: job.kind)
@pytest.mark.parametrize("check", [check_installed, load_client])
def test_an_algorithm_that_is_not_installed_is_refused_with_what_to_do(job: Any, check: Any) -> None:
    with pytest.raises(TaskFailed) as caught:
        check(job)
    assert caught.value.failure.kind is FailureKind.ALGORITHM
    message = caught.value.failure.message
    assert message.startswith(
        f"the algorithm far is not installed at this agent; installed are {', '.join(algorithms.names())}."
    )
    assert "pip install" in message
    assert "restart the agent" in message


@pytest.mark.parametrize("job", PLAIN, ids=lambda job: job.kind)
def test_a_plain_client_half_needs_nothing(job: Any) -> None:
    check_installed(job)
    client = load_client(job)
    assert (client.half, client.server.broadcast) == (ClientHalf, ())
    half = client.half(client.read_params({"unknown": [1]}), {})
    assert half.extra_grad("w", 1.0, 0.0) is None
    assert half.finish("w", 1.0, 0.0, 0.1, 3) == {}


@pytest.mark.parametrize("job", [init_job(), evaluate_job()], ids=lambda job: job.kind)
def test_tasks_without_an_algorithm_need_none(job: Any) -> None:
    check_installed(job)


def test_an_installed_client_half_comes_with_its_parameters_and_broadcast() -> None:
    job = train_job(algorithm="scaffold", plain_client=False, algorithm_params={"eta_g": 0.5})
    check_installed(job)
    client = load_client(job)
    assert (client.half, client.server) == (scaffold.Client, scaffold.Server)
    assert client.read_params(job.algorithm_params) == scaffold.Params(eta_g=0.5)


def test_parameters_of_another_version_are_refused_with_their_names() -> None:
    client = load_client(train_job(algorithm="scaffold", plain_client=False))
    with pytest.raises(TaskFailed, match=r"eta_h: .* the version that the coordinator has") as caught:
        client.read_params({"eta_h": "secret"})
    assert caught.value.failure.kind is FailureKind.ALGORITHM
    assert "secret" not in caught.value.failure.message


def test_a_plug_in_that_cannot_be_imported_is_refused_without_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def load(self) -> None:
            raise ImportError("cannot import name 'x' from '/home/ada/site/y.py'")

    monkeypatch.setattr(algorithms.PLUGINS, "installed", {"far": Entry()})
    with pytest.raises(TaskFailed, match=r"far .* cannot be used: loading it ended in ImportError") as caught:
        load_client(prepare_job(**FAR))
    assert caught.value.failure.kind is FailureKind.ALGORITHM
    assert "/home" not in caught.value.failure.message


@pytest.mark.parametrize("make", [prepare_job, train_job])
def test_an_algorithm_with_a_half_of_its_own_here_is_not_plain_because_a_coordinator_says_so(make: Any) -> None:
    with pytest.raises(TaskFailed) as caught:
        load_client(make(algorithm="scaffold", plain_client=True))
    assert caught.value.failure.kind is FailureKind.CONTRACT_MISMATCH
    said = "plain_client: the algorithm scaffold has a client half of its own at this agent"
    assert caught.value.failure.message == said
    assert load_client(make(algorithm="fedadam", plain_client=True)).half is ClientHalf
