"""An operator's calls in plain HTTP: tests of the service depend on none of its clients."""

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from shared.wire.problems import Problem

_FIRST_POLL_S, _MAX_POLL_S = 0.01, 0.1


class Operator:
    """Calls a coordinator with an operator's key."""

    def __init__(self, url: str, key: str, ca_file: Path | None = None) -> None:
        self.key = key
        # not for plain HTTP: loading the TLS authorities takes 50 ms of CPU
        verify = ssl.create_default_context(cafile=ca_file) if url.startswith("https:") else False
        headers = {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=30, verify=verify)

    def is_answered(self) -> bool:
        """Whether the coordinator answers."""
        try:
            return self.http.get("/readyz").is_success
        except httpx.HTTPError:
            return False

    def token(self, **body: Any) -> str:
        return str(self.post("/v1/tokens", body)["token"])

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        reply = self.http.post(path, json=body, headers=headers)
        assert reply.is_success, reply.text
        return reply.json()

    def get(self, path: str, **params: Any) -> Any:
        reply = self.http.get(path, params=params)
        assert reply.is_success, reply.text
        return reply.json()

    def items(self, path: str, **params: Any) -> list[Any]:
        return list(self.get(path, **params)["items"])

    def all_items(self, path: str, limit: int = 2) -> list[Any]:
        """All items of a listing, fetched page by page."""
        items: list[Any] = []
        cursor = None
        while True:
            page = self.get(path, limit=limit, **({"cursor": cursor} if cursor else {}))
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    def verify(self, campaign_id: str, *rounds: int, timeout_s: float = 60) -> list[Any]:
        """Verify all closed rounds, or the given ones. Returns the outcomes once the job is done."""
        path = f"/v1/campaigns/{campaign_id}/verifications"
        job = self.post(path, {"rounds": list(rounds)} if rounds else None)
        job = self.wait_until(lambda: self.get(f"{path}/{job['id']}"), lambda read: read["state"] == "done", timeout_s)
        return list(job["outcomes"])

    def campaign(self, campaign_id: str, move: str) -> httpx.Response:
        """Pause, resume or cancel."""
        return self.http.post(f"/v1/campaigns/{campaign_id}/{move}")

    def events(self, campaign_id: str) -> list[str]:
        return [event["type"] for event in self.items(f"/v1/campaigns/{campaign_id}/events")]

    def wait_for(self, campaign_id: str, *states: str, timeout_s: float = 180) -> Any:
        """Wait until the campaign is in one of the states. Returns the campaign."""
        return self.wait_until(
            lambda: self.get(f"/v1/campaigns/{campaign_id}"), lambda detail: detail["state"] in states, timeout_s
        )

    @staticmethod
    def wait_until(read: Callable[[], Any], is_so: Callable[[Any], bool], timeout_s: float = 180) -> Any:
        """Poll *read* until *is_so* accepts its value. Returns the value; fails after *timeout_s*.

        The interval grows, because each reply costs the coordinator as much as an agent's request.
        """
        began = time.monotonic()
        while True:
            value = read()
            if is_so(value):
                return value
            waited_s = time.monotonic() - began
            assert waited_s < timeout_s, f"timed out, last value: {value}"
            time.sleep(min(_FIRST_POLL_S + waited_s / 10, _MAX_POLL_S))


def problem(reply: httpx.Response) -> Problem:
    """The problem in an error reply."""
    assert reply.headers["Content-Type"].startswith("application/problem+json"), reply.text
    return Problem.model_validate_json(reply.content)
