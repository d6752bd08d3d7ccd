"""A process that is killed at one crash point after another, and an operator who retries meanwhile."""

import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx

from tests.support.operator import Operator
from tests.support.processes import Process

_PATIENCE_S = 120.0
_LAST_S = 60.0
_PAUSE_S = 0.05


class Mortal(Protocol):
    """A process that can be killed and started again."""

    environment: dict[str, str]
    process: Process

    def launch(self) -> None: ...


class Deaths:
    """Kills a process at each of several crash points, in order.

    Each start sets the next point, which kills the process. After the last point it starts without one and stays up.
    """

    def __init__(self, mortal: Mortal, points: Sequence[str], folder: Path) -> None:
        self._mortal = mortal
        self._points = points
        self._folder = folder
        self._is_over = threading.Event()
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._run)

    def begin(self) -> None:
        """Stop the process cleanly, then begin the deaths."""
        self._mortal.process.stop()
        self._thread.start()

    def trouble(self) -> str | None:
        """What went wrong. Returns None if nothing did."""
        return self._trouble

    def finish(self) -> Sequence[str]:
        """Wait for the last death and the start after it. Returns the points; fails if one was not reached."""
        self._thread.join(_LAST_S)
        self.stop()
        assert self._trouble is None, self._trouble
        return self._points

    def stop(self) -> None:
        """Start the process no more."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        for point in self._points:
            try:
                self._die(point)
            except Exception as error:
                self._trouble = f"{point}: {error}"
                return
        for name in ("FEDLOOM_CRASH_AT", "FEDLOOM_CRASH_NOTES"):
            del self._mortal.environment[name]
        self._mortal.launch()

    def _die(self, point: str) -> None:
        notes = Path(tempfile.mkdtemp(dir=self._folder)) / "notes"  # a new file, since a point may occur twice
        self._mortal.environment.update(FEDLOOM_CRASH_AT=point, FEDLOOM_CRASH_NOTES=str(notes))
        self._mortal.launch()
        process = self._mortal.process
        while (code := process.popen.poll()) is None:
            assert not self._is_over.wait(_PAUSE_S), "the process never reached this point"
        assert code == -signal.SIGKILL, f"the process ended with {code}: {process.printed()[-2000:]}"
        assert notes.read_text() == f"{point}\n", "another cause killed the process"


class _RetryingTransport(httpx.HTTPTransport):
    """Repeats a request unchanged until a reply arrives."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                reply = super().handle_request(request)
                reply.read()
            except httpx.TransportError:
                if time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_S)
            else:
                return reply


class PatientOperator(Operator):
    """An operator who repeats each request that got no reply."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(url, key)
        self.http = httpx.Client(base_url=url, headers=self.http.headers, timeout=30, transport=_RetryingTransport())

    def create(self, body: dict[str, Any]) -> str:
        """Create a campaign, idempotent by its name. Returns its id."""
        return str(self.post("/v1/campaigns", body, **{"Idempotency-Key": body["name"]})["id"])
