"""A process that is killed at one point after the other, and whoever puts up with that."""

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
    """What can be killed and started again."""

    environment: dict[str, str]
    process: Process

    def launch(self) -> None: ...


class Deaths:
    """Kills a process at each of some points, in their order: it is started with the first one; when that has killed
    it, with the next one; and after the last to live on."""

    def __init__(self, mortal: Mortal, points: Sequence[str], folder: Path) -> None:
        self._mortal = mortal
        self._points = points
        self._folder = folder
        self._is_over = threading.Event()
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._run)

    def begin(self) -> None:
        """Stop the process in good order, and have it die at the points from now on."""
        self._mortal.process.stop()
        self._thread.start()

    def trouble(self) -> str | None:
        """What went wrong; None as long as nothing did."""
        return self._trouble

    def finish(self) -> Sequence[str]:
        """Wait for the last death and the start after it; the points. Fails where one is not reached any more."""
        self._thread.join(_LAST_S)
        self.stop()
        assert self._trouble is None, self._trouble
        return self._points

    def stop(self) -> None:
        """Start nothing any more."""
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
        notes = Path(tempfile.mkdtemp(dir=self._folder)) / "notes"  # new ones: a point may come twice
        self._mortal.environment.update(FEDLOOM_CRASH_AT=point, FEDLOOM_CRASH_NOTES=str(notes))
        self._mortal.launch()
        process = self._mortal.process
        while (code := process.popen.poll()) is None:
            assert not self._is_over.wait(_PAUSE_S), "never reached"
        assert code == -signal.SIGKILL, f"the process ended with {code}: {process.printed()[-2000:]}"
        assert notes.read_text() == f"{point}\n", "somebody else killed it"


class _Patience(httpx.HTTPTransport):
    """Sends a request again, as it is, until it is answered."""

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
    """An operator who does everything again that got no answer."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(url, key)
        self.http = httpx.Client(base_url=url, headers=self.http.headers, timeout=30, transport=_Patience())

    def create(self, body: dict[str, Any]) -> str:
        """The id of a new campaign, the only one of its name."""
        return str(self.post("/v1/campaigns", body, **{"Idempotency-Key": body["name"]})["id"])
