"""The agent's HTTP client: replies that are incomplete or not from a coordinator, refusals, time-outs."""

import asyncio
import json
import socket
import threading
import time
from typing import Any

import httpx
import pytest

from agent.configuration.settings import NetworkSettings
from agent.errors import CoordinatorRefused, CoordinatorUnreachable, LeaseLost, UnreadableAssignment
from agent.ledger.outbound import Chunk
from shared.wire.base import CHUNK_BYTES
from shared.wire.problems import ProblemType
from shared.wire.tasks.assignments import Assignment
from shared.wire.tasks.results import InitResult
from tests.agent.parts import (
    OURS,
    SHA,
    a_lease,
    by_call,
    evaluate_assignment,
    init_assignment,
    ours,
    prepare_assignment,
    problem,
    train_assignment,
)
from tests.support.ledgers import api_of
from tests.support.server import free_port
from tests.unit.stub_server import Answer, cut_after, hang_up, reply, stub_server

PAGE = "<html>Welcome</html>"


def acquire(url: str) -> object:
    async def work() -> object:
        api = api_of(url, "secret")
        try:
            return await api.acquire("instance", 0)
        finally:
            await api.close()

    return asyncio.run(work())


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, PAGE, "text/html"),
        reply(404, PAGE, "text/html"),
        reply(413, PAGE, "text/html"),
        reply(502, PAGE, "text/html"),
        reply(302, Location="https://login.example/"),
        reply(204),
        ours(307, Location="/v1/leases/"),
        ours(404, PAGE),
        ours(201, a_lease().model_dump_json()[:-20]),
        ours(201, "[]"),
        ours(201, b"\xff\xfe"),
        ours(201, b"not gzip", Content_Encoding="gzip"),
        problem(500, ProblemType.INTERNAL),
        problem(507, ProblemType.STORAGE_FULL),
        cut_after(201, b"{" * 100, 50),
        hang_up,
    ],
    ids=range(16),
)
def test_replies_that_no_coordinator_gave_are_retried(answer: Answer) -> None:
    with stub_server(answer) as stub, pytest.raises(CoordinatorUnreachable):
        acquire(stub.url)


@pytest.mark.parametrize(
    ("retry_after", "pause_s"), [("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None), ("", None)]
)
def test_retry_after_is_honoured_when_it_is_in_seconds(retry_after: str, pause_s: float | None) -> None:
    answer = problem(429, ProblemType.UNAVAILABLE, Retry_After=retry_after)
    with stub_server(answer) as stub, pytest.raises(CoordinatorUnreachable) as caught:
        acquire(stub.url)
    assert caught.value.retry_after_s == pause_s


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (409, ProblemType.AGENT_ALREADY_RUNNING, CoordinatorRefused),
        (410, ProblemType.LEASE_LOST, LeaseLost),
        (413, ProblemType.TOO_LARGE, CoordinatorRefused),
        (422, ProblemType.INVALID, CoordinatorRefused),
    ],
)
def test_a_refusal_is_final(status: int, kind: ProblemType, error: type[CoordinatorRefused]) -> None:
    with stub_server(problem(status, kind)) as stub, pytest.raises(error) as caught:
        acquire(stub.url)
    assert caught.value.kind == kind


def with_new_fields(value: Any) -> Any:
    """The message with one more field at every level, as a newer coordinator may send it."""
    if isinstance(value, dict):
        return {**{key: with_new_fields(field) for key, field in value.items()}, "new": {"newer": [1]}}
    return value


TASKS = [prepare_assignment(), init_assignment(), train_assignment(), evaluate_assignment()]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_an_assignment_of_a_newer_coordinator_is_read_without_its_new_fields(task: Assignment) -> None:
    message = with_new_fields(a_lease(task=task).model_dump(mode="json"))
    assert "new" in message["assignment"]
    if spec := message["assignment"].get("spec"):
        assert "new" in spec["data"]  # sections forbid this in a campaign file
        for free in (spec["algorithm"]["params"], spec["selection"]["labels"]):  # their fields are not Fedloom's
            free.clear()
    with stub_server(ours(201, json.dumps(message))) as stub:
        assert acquire(stub.url) == a_lease(task=task)


@pytest.mark.parametrize("task_id", ["../../precious", "/home/ada", ".", "", "a/b", "a" * 65])
def test_a_task_id_that_leads_out_of_the_home_is_not_accepted(task_id: str) -> None:
    raw = a_lease().model_dump(mode="json") | {"task_id": task_id}
    with stub_server(ours(201, json.dumps(raw))) as stub, pytest.raises(CoordinatorUnreachable, match=r"\(task_id: "):
        acquire(stub.url)


def test_a_campaign_id_that_leads_out_of_the_home_is_not_accepted() -> None:
    lease = a_lease()
    task = lease.assignment.model_copy(update={"campaign_id": "../precious"})
    lease = lease.model_copy(update={"assignment": task})
    with (
        stub_server(ours(201, lease.model_dump_json())) as stub,
        pytest.raises(UnreadableAssignment, match="campaign_id: "),
    ):
        acquire(stub.url)


def test_an_unreachable_coordinator_is_named_with_the_cause() -> None:
    port = free_port()
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(CoordinatorUnreachable) as caught:
            acquire(f"http://{host}:{port}")
        assert str(caught.value) == f"the coordinator at http://{host}:{port} cannot be reached: connection refused"
    with stub_server(hang_up) as stub, pytest.raises(CoordinatorUnreachable) as caught:
        acquire(stub.url)
    assert str(caught.value).startswith(f"the connection to the coordinator at {stub.url} failed: server disconnected")
    with stub_server(hang_up) as stub, pytest.raises(CoordinatorUnreachable, match="cannot be reached: the TLS conn"):
        acquire(stub.url.replace("http:", "https:"))


@pytest.mark.parametrize("headers", [{}, {"Upload_Offset": "many"}])
def test_a_chunk_whose_answer_names_no_offset_is_tried_again(headers: dict[str, str]) -> None:
    async def work(url: str) -> None:
        await api_of(url, "secret").append(a_lease(), "u1", 0, Chunk.of(b"bytes"))

    with stub_server(ours(204, **headers)) as stub, pytest.raises(CoordinatorUnreachable):
        asyncio.run(work(stub.url))


def test_each_timeout_comes_from_the_settings() -> None:
    network = NetworkSettings(connect_timeout_s=2, timeout_s=3, chunk_timeout_s=4, result_timeout_s=5, wait_s=6)
    timeouts: list[dict[str, float]] = []

    async def note(request: httpx.Request) -> None:
        timeouts.append(request.extensions["timeout"])

    async def work(url: str) -> None:
        api = api_of(url, "secret", network=network)
        api._http.event_hooks = {"request": [note]}
        await api.acquire("instance")
        await api.append(a_lease(), "u1", 0, Chunk.of(b"bytes"))
        await api.put_result(a_lease(), InitResult(adapter=SHA))
        await api.release(a_lease())

    done = ours(204, Upload_Offset="5")
    with stub_server(by_call(POST=done, PATCH=done, DELETE=done, PUT=ours(200, '{"campaigns": []}'))) as stub:
        asyncio.run(work(stub.url))
        assert stub.seen[0][2]["prefer"] == "wait=6"
    assert [timeout["read"] for timeout in timeouts] == [6 + 3, 4, 5, 3]
    assert {(timeout["connect"], timeout["write"]) for timeout in timeouts} == {(2, 3)}


@pytest.mark.deep
def test_a_chunk_may_take_longer_than_one_time_out() -> None:
    """On a slow line, only a chunk that makes no progress is an error."""
    network = NetworkSettings(timeout_s=3)
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    head = "".join(f"{name}: {value}\r\n" for name, value in OURS.items())

    def read_slowly() -> None:
        connection, _ = listening.accept()
        with connection:
            received = 0
            while received < CHUNK_BYTES:
                received += len(connection.recv(1 << 16))
                time.sleep(0.04)
            connection.sendall(f"HTTP/1.1 204 Done\r\n{head}Upload-Offset: {CHUNK_BYTES}\r\n\r\n".encode())

    async def work() -> int:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        return await api_of(url, "secret", network=network).append(a_lease(), "u1", 0, Chunk.of(bytes(CHUNK_BYTES)))

    reading = threading.Thread(target=read_slowly)
    with listening:
        reading.start()
        assert asyncio.run(work()) == CHUNK_BYTES
        reading.join()


def test_a_download_asks_for_uncompressed_bytes_and_refuses_a_reply_that_ignores_the_range() -> None:
    async def work(url: str) -> None:
        async with api_of(url, "secret").download(a_lease(), SHA, 5) as chunks:
            async for _ in chunks:
                pass

    with stub_server(by_call(GET=ours(200, b"0123456789"))) as stub:
        with pytest.raises(CoordinatorUnreachable, match="did not send the part"):
            asyncio.run(work(stub.url))
        [(_, _, headers)] = stub.seen
    assert (headers["range"], headers["accept-encoding"]) == ("bytes=5-", "identity")
    assert OURS.items() <= {name.title(): value for name, value in headers.items()}.items()
