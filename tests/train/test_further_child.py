"""A process that the child starts for one order: its failures are the child's own."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import TaskFailed
from agent.orders.order import Order
from agent.orders.own_results import OwnResultsMade, OwnResultsRequest
from agent.orders.protocol import Failed, Message, OutOfMemory, Report
from agent.train.process import further_child
from agent.train.process.memory import is_exhausted
from shared.wire.tasks.leases import Failure, FailureKind, Phase, Progress
from tests.agent.jobs import local_job


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the further child give some answers to its order."""

    def answer(*messages: Message) -> None:
        lines = [message.model_dump_json() for message in messages]
        code = f"import sys; sys.stdin.readline(); print(*{lines!r}, sep='\\n', end='', flush=True); sys.exit(3)"
        monkeypatch.setattr(further_child, "_COMMAND", (sys.executable, "-c", code))

    return answer


def request_of(folder: Path) -> Order[OwnResultsMade]:
    work = local_job(folder)
    return OwnResultsRequest(compute=work.compute, work=work, out=folder / "out")


def test_its_progress_is_passed_on_and_its_answer_returned(answering: Callable[..., None], tmp_path: Path) -> None:
    progress, reports = Progress(phase=Phase.LOADING_MODEL), []
    answering(Report(progress=progress), OwnResultsMade())
    assert further_child.ask_further_child(request_of(tmp_path), reports.append) == OwnResultsMade()
    assert reports == [progress]


def test_its_refusal_is_the_childs(answering: Callable[..., None], tmp_path: Path) -> None:
    failure = Failure.of(FailureKind.BASE_MODEL, "no such model")
    answering(Failed(failure=failure, private="/home/x"))
    with pytest.raises(TaskFailed) as caught:
        further_child.ask_further_child(request_of(tmp_path), print)
    assert (caught.value.failure, caught.value.private) == (failure, "/home/x")


def test_memory_that_runs_out_in_it_is_the_childs(answering: Callable[..., None], tmp_path: Path) -> None:
    answering(OutOfMemory(peak_bytes=1, longest_row_tokens=2))
    with pytest.raises(MemoryError) as caught:
        further_child.ask_further_child(request_of(tmp_path), print)
    assert is_exhausted(caught.value)


def test_without_an_answer_its_status_is_said(answering: Callable[..., None], tmp_path: Path) -> None:
    answering()
    with pytest.raises(RuntimeError, match="ended with 3"):
        further_child.ask_further_child(request_of(tmp_path), print)
