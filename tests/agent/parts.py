"""Building blocks of the agent's tests: assignments, leases and replies made by hand, and an agent in this process."""

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from agent.child.supervisor import Supervisor
from agent.configuration.live import LiveSettings
from agent.configuration.open_policy import with_open_policy
from agent.running.loop import run_agent
from agent.workspace import Workspace
from fedloom.evaluation.campaigns.here import benchmarks_here
from shared.campaign.digest import spec_sha256
from shared.campaign.spec import CampaignSpec
from shared.wire.base import PROTOCOL, PROTOCOL_HEADER
from shared.wire.problems import MEDIA_TYPE, ProblemType
from shared.wire.tasks.assignments import (
    Assignment,
    BenchmarkAssignment,
    EvaluateAssignment,
    InitAssignment,
    PrepareAssignment,
    TrainAssignment,
)
from shared.wire.tasks.leases import TaskLease
from shared.wire.tasks.results import Fingerprint
from tests.support.ledgers import sent
from tests.support.processes import RECORDED_CHILD
from tests.support.scripted import campaign_body
from tests.unit.stub_server import Answer, reply

OURS = {PROTOCOL_HEADER: PROTOCOL}
SHA = "a" * 64
FINGERPRINT = dict.fromkeys(Fingerprint.model_fields, SHA)
CREATED_ON = date(2026, 1, 31)
ADAPTER = {"sha256": SHA, "n_bytes": 10}


def campaign_spec(**changes: Any) -> CampaignSpec:
    """A campaign of three rounds of five steps with two rows each."""
    usual = {"training": {"steps": 5, "batch_size": 2, "max_length": 64, "learning_rate": 0.1, "seed": 7}, "rounds": 3}
    return CampaignSpec.model_validate(campaign_body(**{**usual, "evaluation": {"every": 1}, **changes}))


def prepare_assignment(spec: CampaignSpec | None = None, **changes: Any) -> PrepareAssignment:
    spec = spec or campaign_spec()
    terms = {"created_on": CREATED_ON, "plain_client": True, "mixes_ranks": False}
    others = {"participants": ["ada", "bob", "cyd"], "n_participants": 3}
    raw = {**_of_campaign(spec), "spec": spec.model_dump(), **terms, **others, **changes}
    return PrepareAssignment.model_validate(raw)


def init_assignment(spec: CampaignSpec | None = None, **changes: Any) -> InitAssignment:
    return InitAssignment.model_validate({**_of_campaign(spec), "fingerprint": FINGERPRINT, **changes})


def train_assignment(spec: CampaignSpec | None = None, **changes: Any) -> TrainAssignment:
    round_of_three = {"round": 1, "history": 0, "client_number": 0, "n_clients": 3, "n_in_round": 3}
    raw = {**_of_campaign(spec), "fingerprint": FINGERPRINT, **round_of_three, "adapter": ADAPTER, **changes}
    return TrainAssignment.model_validate(raw)


def evaluate_assignment(spec: CampaignSpec | None = None, **changes: Any) -> EvaluateAssignment:
    of_round = {"round": 1, "history": 0, "adapter": ADAPTER}
    raw = {**_of_campaign(spec), "fingerprint": FINGERPRINT, **of_round, **changes}
    return EvaluateAssignment.model_validate(raw)


def benchmark_assignment(spec: CampaignSpec | None = None, **changes: Any) -> BenchmarkAssignment:
    of_round = {"round": 1, "history": 0, "adapter": ADAPTER, "benchmarks": ["fpb"]}
    raw = {**_of_campaign(spec), "fingerprint": FINGERPRINT, **of_round, **changes}
    return BenchmarkAssignment.model_validate(raw)


def _of_campaign(spec: CampaignSpec | None) -> dict[str, Any]:
    return {"campaign_id": "c1", "spec_sha256": digest_of(spec or campaign_spec())}


def digest_of(spec: CampaignSpec) -> str:
    """The digest of a specification in these assignments."""
    return spec_sha256(spec, CREATED_ON)


def a_lease(
    attempt: int = 1, task_id: str = "task1", renew_every_s: float = 60.0, task: Assignment | None = None
) -> TaskLease:
    raw = {"task_id": task_id, "attempt": attempt, "token": "t", "expires_at": "2030-01-01T00:00:00Z"}
    assignment = (task or init_assignment()).model_dump()
    return TaskLease.model_validate({**raw, "renew_every_s": renew_every_s, "assignment": assignment})


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


class Home:
    """An enrolled agent. It runs in a thread of this process while a `with` block lasts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = Workspace(folder)
        self.error: Exception | None = None

    def write_settings(self, more: str = "") -> None:
        """Write agent.toml: the data set "notes", and the open policy but for keys that *more* sets itself."""
        text = f'[data.notes]\npath = "notes.jsonl"\n{more}'
        self.workspace.settings_file.write_text(with_open_policy(text))

    async def _run(self, settings: LiveSettings, supervisor: Supervisor) -> None:
        identity = self.workspace.read_identity()
        await run_agent(self.workspace, identity, settings, supervisor, benchmarks=benchmarks_here)

    @contextmanager
    def running(self, child: Sequence[str] = RECORDED_CHILD) -> Iterator["Home"]:
        """Run the agent. Leaving the block acts as Ctrl-C. child: command of its training child."""
        loop = asyncio.new_event_loop()
        settings = LiveSettings.read(self.workspace.settings_file)
        supervisor = Supervisor(child)
        work = loop.create_task(self._run(settings, supervisor))

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
        """What the ledger has of it."""
        return sent(self.folder, what)
