"""Coordinators and agents as separate processes that tests kill and restart."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx

from agent.configuration.open_policy import with_open_policy
from agent.main import enroll
from shared.credentials import read_secret
from tests.support.forks import quick_children
from tests.support.forks.preloaded import Preloaded
from tests.support.operator import Operator
from tests.support.server import free_port

ROOT = Path(__file__).resolve().parents[2]
RECORDED_CHILD = [sys.executable, "-m", "tests.support.recorded_child"]


def quick_recorded_child() -> list[str]:
    """Command of a recorded child that starts at once."""
    return Preloaded.server.stand_in(*RECORDED_CHILD[1:])


class Process:
    """A process whose output goes to a log file."""

    def __init__(
        self,
        argv: list[str],
        log: Path,
        cwd: Path = ROOT,
        popen: Callable[..., Any] = subprocess.Popen,
        **environment: str,
    ) -> None:
        self.log = log
        with log.open("ab") as file:
            self.popen = popen(
                argv, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env={**os.environ, **environment}, cwd=cwd
            )

    def kill(self) -> None:
        """Send SIGKILL and wait."""
        self.popen.kill()
        self.popen.wait(10)

    def stop(self) -> int:
        """End it with SIGINT, as Ctrl-C does. Returns its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGINT)
            try:
                self.popen.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return self.popen.returncode

    def printed(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_to_print(self, pattern: str, timeout_s: float = 180) -> re.Match[str]:
        """Wait until its output matches *pattern*. Returns the match."""
        return wait_until(
            lambda: re.search(pattern, self.printed()), f"{pattern!r} in {self.log}", timeout_s, self._is_over
        )

    def _is_over(self) -> str | None:
        code = self.popen.poll()
        return f"the process ended with {code}: {self.printed()[-2000:]}" if code is not None else None


def wait_until(
    read: Callable[[], Any], what: str, timeout_s: float = 180, is_over: Callable[[], str | None] = lambda: None
) -> Any:
    """Poll *read* until its value is truthy. Returns the value; fails after *timeout_s*."""
    until = time.monotonic() + timeout_s
    while not (value := read()):
        assert (over := is_over()) is None, f"waiting for {what}: {over}"
        assert time.monotonic() < until, f"timed out waiting for {what}"
        time.sleep(0.02)
    return value


def is_ready(url: str) -> bool:
    """Whether the coordinator at *url* is ready."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


_HASTE = {"FEDLOOM_ENGINE__POLL_S": "0.05", "FEDLOOM_ENGINE__SWEEP_S": "0.2", "FEDLOOM_LEASE__MAX_PAUSE_S": "0.2"}


class CoordinatorProcess:
    """`fedloom coordinator serve` on a fixed port, so that it can restart at the same URL."""

    popen: Callable[..., Any] = subprocess.Popen

    def __init__(
        self, folder: Path, database_url: str | None = None, serve: Sequence[str] = (), **environment: str
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._serve = list(serve)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {**_HASTE, **environment}
        self._arguments = ["--database-url", database_url] if database_url else []
        self.process: Process
        self.start()
        self.operator = Operator(self.url, read_secret(self.data / "operator.key"))

    def start(self) -> None:
        self.launch()
        wait_until(lambda: is_ready(self.url), "the coordinator", 60, self.process._is_over)

    def launch(self) -> None:
        """Start it without waiting until it answers."""
        argv = [sys.executable, "-m", "fedloom", "coordinator", "serve", "--verbose", "--port", str(self.port)]
        argv += ["--data-dir", str(self.data), *self._arguments, *self._serve]
        self.folder.mkdir(exist_ok=True)
        self.process = Process(argv, self.folder / "coordinator.log", popen=self.popen, **self.environment)


class AnyCoordinator(Protocol):
    """A coordinator in another process or in this one."""

    url: str
    operator: Operator


class AgentProcess:
    """`fedloom agent run` in its own home folder. child: command of its training child; None means the default.

    preamble: lines of Python that run before it, such as one that takes a layer of its protection out of the way.
    """

    preamble = ""
    popen: Callable[..., Any] = subprocess.Popen

    def __init__(self, home: Path, child: list[str] | None = None, **recorded: Any) -> None:
        self.home = home
        self._child = child
        self.recorded = recorded
        self.environment: dict[str, str] = {}
        self.process: Process

    @classmethod
    def recorded_one(
        cls,
        coordinator: "AnyCoordinator",
        folder: Path,
        name: str,
        n_rows: int = 10,
        settings: str = "",
        **recorded: Any,
    ) -> "AgentProcess":
        """An enrolled agent with a recorded child, *n_rows* rows and further *settings*."""
        agent = cls(folder / name, RECORDED_CHILD, **recorded)
        agent.enroll(coordinator, f'{settings}[data.notes]\npath = "notes.jsonl"\n')
        (agent.home / "notes.jsonl").write_text("{}\n" * n_rows)
        return agent

    def enroll(self, coordinator: "AnyCoordinator", settings: str, **labels: str) -> None:
        enroll(self.home, coordinator.url, coordinator.operator.token(labels=labels), self.home.name)
        (self.home / "agent.toml").write_text(with_open_policy(settings))

    def start(self) -> None:
        script = (
            "import sys, json; from pathlib import Path; from agent import main; "
            "from fedloom.evaluation.campaigns.here import benchmarks_here; main.log_to_stderr(); "
            "main.run(Path(sys.argv[1]), json.loads(sys.argv[2]), benchmarks=benchmarks_here)"
        )
        argv = [sys.executable, "-c", self.preamble + script, str(self.home), json.dumps(self._child_argv())]
        log = self.home.parent / f"{self.home.name}.log"
        recorded = json.dumps(self.recorded)
        self.process = Process(argv, log, popen=self.popen, FEDLOOM_RECORDED=recorded, **self.environment)

    def _child_argv(self) -> list[str] | None:
        return self._child


class QuickCoordinator(CoordinatorProcess):
    """A coordinator process that starts at once, for tests with many starts."""

    popen = Preloaded


class QuickAgent(AgentProcess):
    """An agent process that starts at once, with its child, and reconnects at once after a cut."""

    popen = Preloaded

    def start(self) -> None:
        if self._child is None:
            self.environment |= quick_children.environment()
        super().start()

    def _child_argv(self) -> list[str] | None:
        return quick_recorded_child() if self._child == RECORDED_CHILD else self._child

    def launch(self) -> None:
        self.start()


class EngineProcess:
    """`fedloom coordinator engine` beside a service."""

    def __init__(self, coordinator: CoordinatorProcess) -> None:
        argv = [
            sys.executable,
            "-m",
            "fedloom",
            "coordinator",
            "engine",
            "--data-dir",
            str(coordinator.data),
        ]
        log = coordinator.folder / "engine.log"
        self.process = Process(argv, log, FEDLOOM_ENGINE__POLL_S="0.05", FEDLOOM_ENGINE__SWEEP_S="0.2")


@contextmanager
def ended(*running: CoordinatorProcess | AgentProcess | EngineProcess) -> Iterator[None]:
    """Kill the processes when the block ends, on errors too."""
    try:
        yield
    finally:
        for each in running:
            process: Process | None = getattr(each, "process", None)
            if process is not None and process.popen.poll() is None:
                process.kill()
