"""Building blocks of the agent's tests: jobs, leases and replies made by hand, and an agent in this process."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from agent.data.source import DataSource
from agent.loop import run_agent
from agent.orders.job import LocalJob
from agent.settings import ComputeSettings, load_settings
from agent.supervisor import Supervisor
from agent.workspace import Workspace
from shared.wire.base import PROTOCOL, PROTOCOL_HEADER
from shared.wire.jobs import EvaluateJob, Fingerprint, InitJob, Job, PrepareJob, TrainJob
from shared.wire.leases import TaskLease
from shared.wire.problems import MEDIA_TYPE, ProblemType
from tests.support.messages import with_training
from tests.support.processes import RECORDED_CHILD
from tests.unit.stub_server import Answer, reply

OURS = {PROTOCOL_HEADER: PROTOCOL}
SHA = "a" * 64
_BASE: dict[str, Any] = {
    "campaign_id": "c1",
    "campaign_name": "small",
    "created_on": "2026-01-31",
    "training_kind": "sft",
    "kind_params": {},
    "base": {"model": "tiny"},
    "lora": {"rank": 2},
}
_FINGERPRINT = dict.fromkeys(Fingerprint.model_fields, SHA)


def init_job(**changes: Any) -> InitJob:
    return InitJob.model_validate({**_BASE, "fingerprint": _FINGERPRINT, "seed": 1, **changes})


def prepare_job(**changes: Any) -> PrepareJob:
    plan = {"data": {"name": "notes"}, "algorithm": "fedavg", "plain_client": True, "rounds": 3}
    plan |= {"mixes_ranks": False}
    return PrepareJob.model_validate(with_training({**_BASE, **plan, **changes}, max_length=64, steps=5))


def train_job(**changes: Any) -> TrainJob:
    plan = {"data": {"name": "notes"}, "algorithm": "fedavg", "algorithm_params": {}, "round": 1, "client_number": 0}
    numbers: dict[str, Any] = {
        "rank": 2,
        "seed": 1,
        "steps": 5,
        "batch_size": 2,
        "max_length": 64,
        "learning_rate": 0.1,
    }
    adapter = {"sha256": SHA, "n_bytes": 10}
    plan["plain_client"] = True
    numbers |= {"state_versions": 2}
    raw = {**_BASE, "fingerprint": _FINGERPRINT, **plan, **numbers, "adapter": adapter, **changes}
    kept = {name: raw[name] for name in ("steps", "learning_rate")}
    return TrainJob.model_validate(with_training(raw) | kept)


def evaluate_job(**changes: Any) -> EvaluateJob:
    adapter = {"sha256": SHA, "n_bytes": 10}
    plan = {"data": {"name": "notes"}, "round": 1, "adapter": adapter}
    raw = {**_BASE, "fingerprint": _FINGERPRINT, **plan, **changes}
    return EvaluateJob.model_validate(with_training(raw, max_length=64, steps=5))


def a_lease(attempt: int = 1, task_id: str = "task1", renew_every_s: float = 60.0, job: Job | None = None) -> TaskLease:
    raw = {"task_id": task_id, "attempt": attempt, "token": "t", "expires_at": "2030-01-01T00:00:00Z"}
    return TaskLease.model_validate({**raw, "renew_every_s": renew_every_s, "job": (job or init_job()).model_dump()})


def ours(status: int, body: bytes | str = b"", **headers: str) -> Answer:
    """A coordinator's reply."""
    return reply(status, body, **{**OURS, **headers})


def problem(status: int, kind: ProblemType, **headers: str) -> Answer:
    """A coordinator's refusal."""
    body = json.dumps({"type": kind.uri, "title": "No", "status": status, "detail": f"it says {kind}"})
    return reply(status, body, MEDIA_TYPE, **{**OURS, **headers})


def by_call(**answers: Answer) -> Answer:
    """Answers by method: GET, POST, PATCH, PUT, DELETE."""
    return lambda request: answers[request.command](request)


def in_turn(*answers: Answer) -> Answer:
    """One answer after the other; the last one repeats."""
    remaining = list(answers)
    lock = threading.Lock()

    def answer(request: BaseHTTPRequestHandler) -> None:
        with lock:
            current = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        current(request)

    return answer


def local_job(folder: Path, job: Job | None = None) -> LocalJob:
    return LocalJob(
        job=job or init_job(),
        folder=folder,
        cache=folder,
        model_path=None,
        data=DataSource(path=folder / "notes.jsonl"),
        adapter=None,
        broadcast=None,
        compute=ComputeSettings(),
        micro_batch=4,
        remote_code=False,
        report_losses=True,
    )


class Home:
    """An enrolled agent. It runs in a thread of this process while a `with` block lasts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = Workspace(folder)
        self.error: Exception | None = None

    @contextmanager
    def running(self) -> Iterator["Home"]:
        """Run the agent. Leaving the block acts as Ctrl-C."""
        loop = asyncio.new_event_loop()
        settings = load_settings(self.workspace.settings_file)
        supervisor = Supervisor(settings.compute, RECORDED_CHILD)
        work = loop.create_task(run_agent(self.workspace, self.workspace.read_identity(), settings, supervisor))

        def run() -> None:
            try:
                loop.run_until_complete(work)
            except asyncio.CancelledError:
                pass
            except Exception as error:
                self.error = error
            finally:
                loop.run_until_complete(supervisor.stop())
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield self
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(work.cancel)
            thread.join(20)
            assert not thread.is_alive(), "the agent did not stop"

    def sent(self, what: str) -> list[dict[str, Any]]:
        """The entries of sent.jsonl whose "what" is *what*."""
        lines = (self.folder / "sent.jsonl").read_text().splitlines()
        return [entry for line in lines if (entry := json.loads(line))["what"] == what]
