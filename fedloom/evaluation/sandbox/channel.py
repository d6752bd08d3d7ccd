"""Messages of one process, on a socket of its own."""

import json
import socket
from typing import Any

LONGEST_LINE = 8192

NOT_STARTED = ("broken", "a process of the sandbox ended before it had started")


class Channel:
    """Receives the messages of a process, a line of JSON each.

    Args:
        ours: our end of the socket.
        at_end: what it means if the process ends without a verdict; None if it gives none.
        can_be_forged: whether an answer runs in that process: then none of its messages blames the sandbox.
    """

    def __init__(self, ours: socket.socket, at_end: tuple[str, str] | None, *, can_be_forged: bool) -> None:
        self.socket = ours
        self.has_started = False
        self._at_end = at_end
        self._can_be_forged = can_be_forged
        self._rest = b""
        ours.setblocking(False)

    def receive(self) -> list[tuple[str, Any]]:
        """The messages since: ``started`` once, then verdicts. The last is ``ended`` if nothing more will come."""
        try:
            chunk = self.socket.recv(LONGEST_LINE)
        except OSError:
            chunk = b""
        if not chunk:
            last = self._at_end if self.has_started else NOT_STARTED
            return [last] if last else [("ended", "")]
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            return [("failed", "it wrote what is no verdict")]
        return [message for line in lines if (message := self._read(line))]

    def _read(self, line: bytes) -> tuple[str, Any] | None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if message == ["started"]:
            is_news, self.has_started = not self.has_started, True
            return ("started", "") if is_news else None
        if self._at_end is None:  # gives no verdicts
            return None
        if not isinstance(message, list) or not message or not isinstance(message[0], str):
            return "failed", "it wrote what is no verdict"
        kind = "failed" if message[0] == "broken" and self._can_be_forged else message[0]
        return kind, message[1] if len(message) > 1 else ""
