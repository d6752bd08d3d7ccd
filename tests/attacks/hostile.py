"""A coordinator that wants to read rows: it hands out what it likes, and keeps every byte that comes."""

import json
import time
from collections.abc import Iterator
from typing import Any

from shared.wire.tasks.assignments import Assignment
from tests.agent.scripted_coordinator import Ended, ScriptedCoordinator

_WAIT_S = 20.0


class HostileCoordinator(ScriptedCoordinator):
    """As the scripted one; a request for work is held until there is some. ``received``: all requests and bodies."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.received: list[tuple[str, bytes]] = []
        self.headers: dict[str, str] = {}
        self._more: dict[str, Any] = {}

    def answer(self, method: str, path: str, body: bytes, offset: str) -> tuple[int, Any, dict[str, str]]:
        self.received.append((f"{method} {path}", body))
        status, reply, headers = super().answer(method, path, body, offset)
        return status, reply, headers | self.headers

    def _lease(self) -> tuple[int, Any, dict[str, str]]:
        until = time.monotonic() + _WAIT_S
        while (reply := super()._lease())[0] == 204 and time.monotonic() < until:
            time.sleep(0.02)
        status, body, headers = reply
        if status == 204 or not self._more:
            return reply
        lease = json.loads(body)
        return status, lease | {"assignment": _merged(lease["assignment"], self._more)}, headers

    def do_with(self, task: Assignment, more: dict[str, Any]) -> Ended:
        """Offer a task with fields that it does not have, or others than its own. Wait for its end."""
        self._more = more
        try:
            return self.do(task)
        finally:
            self._more = {}

    def said(self) -> Iterator[Any]:
        """All JSON that agents sent."""
        for _, body in list(self.received):
            if body[:1] == b"{":
                yield json.loads(body)

    def losses(self) -> list[float]:
        """Every loss that agents sent, of trainings, of single steps and of evaluations."""
        return [value for each in self.said() for value in _losses(each)]

    def updates(self) -> set[bytes]:
        """The different updates that agents uploaded."""
        return {ended.files["delta"] for _, ended in self._tasks.values() if "delta" in ended.files}


def _merged(fields: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    both = {name: _merged(fields[name], value) for name, value in more.items() if isinstance(fields.get(name), dict)}
    return fields | more | both


def _losses(said: Any) -> Iterator[float]:
    """The numbers in a JSON value under names with "loss" in them."""
    for name, value in said.items() if isinstance(said, dict) else ():
        if isinstance(value, dict):
            yield from _losses(value)
        elif "loss" in name and isinstance(value, float | int):
            yield value


def refusal(ended: Ended) -> str:
    """Kind and words of a refusal. Nothing else came of the task."""
    assert ended.result is None
    assert ended.files == {}
    assert ended.failure is not None
    return f"{ended.failure['kind']}: {ended.failure['message']}"
