"""A child for local requests, from outside: a real one, and some that misbehave."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent import local
from agent.child.supervisor import ChildDied, Supervisor
from agent.configuration.settings import ComputeSettings
from agent.errors import TaskFailed
from agent.local import LocalChild, default_folder
from agent.orders.on_base.answer import AnswerRequest, Question
from agent.orders.on_base.merge import MergeRequest
from shared.campaign.spec import BaseSection
from shared.wire.tasks.leases import FailureKind, Phase, Progress
from shared.wire.tasks.results import Fingerprint
from tests.train.conftest import Lab
from tests.train.local_requests import QUESTIONS, ask, lora_file

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("quick_children")]


def open_child(lab: Lab, folder: Path, fingerprint: Fingerprint | None = None) -> LocalChild:
    compute = ComputeSettings(device="cpu", threads=1)
    return LocalChild(BaseSection(model="tiny/llama"), lab.model, fingerprint, compute=compute, folder=folder)


def put(child: LocalChild, questions: list[Question], **changes: Any) -> AnswerRequest:
    """The order that puts questions to the child's model."""
    fields = {"template": "chat", "questions": questions, "max_new_tokens": 20} | changes
    return AnswerRequest(model=child.model, compute=child.compute, **fields)


def test_one_warm_child_answers_and_merges(lab: Lab, tmp_path: Path) -> None:
    adapter = lora_file(lab.adapter_0())
    progress: list[Progress] = []
    pieces: list[str] = []
    with open_child(lab, tmp_path / "cache", lab.fingerprint) as child:
        assert child.run(put(child, [], adapter=adapter), progress.append).texts == []
        assert Phase.LOADING_MODEL in [report.phase for report in progress]
        progress.clear()
        answered = child.run(put(child, QUESTIONS, adapter=adapter, micro_batch=2), progress.append)
        assert answered.texts == ask(lab, adapter=adapter)
        assert Phase.LOADING_MODEL not in [report.phase for report in progress], "the child stays warm"
        (text,) = child.run(put(child, QUESTIONS[:1]), on_text=pieces.append).texts
        assert "".join(pieces) == text == ask(lab)[0]
        assert len(pieces) > 3
        (tmp_path / "out").mkdir()
        merge = MergeRequest(
            model=child.model, compute=child.compute, adapter=adapter, dtype="float32", folder=tmp_path / "out"
        )
        assert child.run(merge).file_difference <= 1e-4
        assert child.run(put(child, QUESTIONS[:1])).texts == [text]
        pid = child._supervisor._process.pid  # type: ignore[union-attr]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"child.log", "digests.json"}


FAILED = '{"type": "failed", "failure": {"kind": "crash", "message": "ZeroDivisionError"}}'


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("input(); os.kill(os.getpid(), 9)", TaskFailed, "out of memory: use a machine"),
        ("input(); sys.exit(3)", ChildDied, "exit code 3"),
        (f"input(); print('{FAILED}', flush=True); input()", TaskFailed, "child.log"),
    ],
)
def test_a_child_that_fails_says_how(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: type[Exception], message: str
) -> None:
    argv = [sys.executable, "-c", f"import os, sys\n{script}"]
    monkeypatch.setattr(local, "Supervisor", partial(Supervisor, argv=argv))
    with open_child(lab, tmp_path) as child, pytest.raises(error, match=message) as caught:
        child.run(put(child, [Question(prompt="Why?")]))
    if isinstance(caught.value, TaskFailed):
        assert caught.value.failure.kind in (FailureKind.OUT_OF_MEMORY, FailureKind.CRASH)


def test_the_default_folder_lies_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/fedloom")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache" / "fedloom"
