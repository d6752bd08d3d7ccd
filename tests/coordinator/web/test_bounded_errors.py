"""What is said of a bad request is bounded, and so is the time that it takes."""

import json
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.support.operator import Operator, problem
from tests.support.scripted import campaign_body
from tests.support.server import RunningCoordinator

JSON = {"Content-Type": "application/json"}
MIB = 1 << 20


def test_a_reply_names_ten_errors_and_counts_the_rest(operator: Operator) -> None:
    reply = operator.http.post("/v1/campaigns", json=campaign_body(**{f"unknown_{n}": 1 for n in range(15)}))
    assert reply.status_code == 422
    assert len(problem(reply).errors) == 10
    assert problem(reply).detail.endswith("; and 5 more")
    assert len(reply.content) < 3000


def test_ten_errors_are_all_named(operator: Operator) -> None:
    reply = operator.http.post("/v1/tokens", json={f"unknown_{n}": 1 for n in range(10)})
    assert len(problem(reply).errors) == 10
    assert "more" not in problem(reply).detail


def test_names_of_fields_and_messages_are_bounded(operator: Operator) -> None:
    for body in (
        {"k" * 50_000: 1},
        {"labels": {"L" * 50_000: "x"}},
        {"labels": {"l" * 500: {"x": "y"}}},
        {f"{n}" * 1000: 1 for n in range(12)},
    ):
        reply = operator.http.post("/v1/tokens", json=body)
        assert reply.status_code == 422
        assert len(reply.content) < 10_000
        for each in problem(reply).errors:
            assert len(each.field) <= 120
            assert len(each.message) <= 300


HEAVY = {
    "unknown keys": b"{" + b",".join(b'"%x":0' % n for n in range(111_847)) + b"}",
    "unknown keys, as many as are read": b"{" + b",".join(b'"%x":0' % n for n in range(3_999)) + b"}",
    "arrays": b"[" + b"[]," * ((MIB - 4) // 3) + b"[]]",
    "objects in a list, as many as are read": json.dumps({"selection": [{}] * 1_900}).encode(),
    "wrong values in a field": json.dumps(campaign_body(lora={"rank": 2, "target_modules": [1] * 3_900})).encode(),
    "deep": b"[" * (MIB - 1),
    "equal keys": b"{" + b'"a":1,' * 3_900 + b'"a":1}',
    "digits": b'{"rounds":' + b"9" * (MIB - 11) + b"}",
    "many long numbers": b"[" + b",".join([b"9" * 4299] * 240) + b"]",
    "one long text": b'{"name":"' + b"x" * (MIB - 11) + b'"}',
    "escapes": b'{"name":"' + b"\\ud83d\\ude42" * ((MIB - 11) // 12) + b'"}',
}


@pytest.fixture
def health(coordinator: RunningCoordinator) -> Iterator[list[float]]:
    """Seconds of each reply to /healthz while the test runs."""
    seconds: list[float] = []
    over = threading.Event()

    def probe() -> None:
        with httpx.Client(base_url=coordinator.url, verify=False) as http:
            while not over.is_set():
                began = time.monotonic()
                assert http.get("/healthz").is_success
                seconds.append(time.monotonic() - began)
                over.wait(0.005)

    thread = threading.Thread(target=probe)
    thread.start()
    Operator.wait_until(lambda: seconds, bool)  # there is one however soon the test ends
    yield seconds
    over.set()
    thread.join(20)


@pytest.mark.parametrize("body", HEAVY.values(), ids=HEAVY)
def test_no_body_with_a_valid_key_stops_the_others(operator: Operator, body: bytes, health: list[float]) -> None:
    for _ in range(3):
        began = time.monotonic()
        reply = operator.http.post("/v1/campaigns", content=body, headers=JSON)
        took_s = time.monotonic() - began
        assert reply.status_code in (413, 422)
        assert took_s < 2  # on a busy machine; tenths of a second otherwise
        assert len(reply.content) < 10_000
    assert sorted(health)[len(health) // 2] < 0.1
