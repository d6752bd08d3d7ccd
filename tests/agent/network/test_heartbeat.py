"""A lease that is lost and reacquired while other calls use it."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agent.errors import CoordinatorUnreachable
from agent.network import retry
from agent.network.api import CoordinatorApi
from agent.network.heartbeat import LeaseHeartbeat, TaskGone
from shared.wire.problems import ProblemType
from shared.wire.tasks.leases import Phase, Progress
from shared.wire.tasks.results import InitResult
from tests.agent.parts import SHA, a_lease, by_call, in_turn, ours, problem
from tests.support.ledgers import api_of
from tests.support.server import free_port
from tests.unit.stub_server import Stub, reply, stub_server

LOST = problem(410, ProblemType.LEASE_LOST)
RENEWED = ours(200, '{"expires_at": "2030-01-01T00:00:00Z", "directive": "continue"}')


def heartbeat_at(stub: Stub, renew_every_s: float = 0.01) -> tuple[CoordinatorApi, LeaseHeartbeat]:
    api = api_of(stub.url, "secret")
    return api, LeaseHeartbeat(api, "instance", a_lease(renew_every_s=renew_every_s))


def requests(stub: Stub, method: str) -> list[str]:
    return [path for seen, path, _ in stub.seen if seen == method]


def test_a_lost_lease_is_reacquired_once_for_both_callers() -> None:
    second = ours(201, a_lease(2, renew_every_s=0.01).model_dump_json())
    both_arrived = threading.Barrier(2)

    def refuse_first(request: BaseHTTPRequestHandler) -> None:
        both_arrived.wait(10)
        LOST(request)

    async def work(stub: Stub) -> None:
        api, heartbeat = heartbeat_at(stub)
        beating = asyncio.create_task(heartbeat.run())
        await heartbeat.call(api.release)
        beating.cancel()

    answers = by_call(PATCH=in_turn(refuse_first, RENEWED), DELETE=in_turn(refuse_first, ours(204)), POST=second)
    with stub_server(answers) as stub:
        asyncio.run(work(stub))
        assert requests(stub, "POST") == ["/v1/leases"]
        attempts = [headers["fedloom-lease"] for method, _, headers in stub.seen if method == "DELETE"]
    assert attempts == ["1.t", "2.t"]


def test_a_renewal_that_the_result_overtook_is_not_a_lost_lease() -> None:
    renewal_refused = threading.Event()

    def refuse(request: BaseHTTPRequestHandler) -> None:
        LOST(request)
        renewal_refused.set()

    def accept(request: BaseHTTPRequestHandler) -> None:
        assert renewal_refused.wait(10)
        ours(200, '{"campaigns": []}')(request)

    async def work(stub: Stub) -> None:
        api, heartbeat = heartbeat_at(stub)
        beating = asyncio.create_task(heartbeat.run())
        await heartbeat.finish(lambda lease: api.put_result(lease, InitResult(adapter=SHA)))
        assert not beating.done()
        beating.cancel()

    with stub_server(by_call(PATCH=refuse, PUT=accept, POST=ours(204))) as stub:
        asyncio.run(work(stub))
        assert requests(stub, "POST") == []


@pytest.mark.parametrize(
    ("answer", "successor"),
    [
        (ours(204), None),
        (ours(201, a_lease(task_id="task2").model_dump_json()), "task2"),
        (problem(409, ProblemType.AGENT_ALREADY_RUNNING), None),
    ],
)
def test_a_task_that_does_not_come_back_is_gone(answer: object, successor: str | None) -> None:
    async def work(stub: Stub) -> TaskGone:
        api, heartbeat = heartbeat_at(stub)
        with pytest.raises(TaskGone) as caught:
            await heartbeat.call(api.release)
        return caught.value

    with stub_server(by_call(DELETE=LOST, POST=answer)) as stub:  # type: ignore[arg-type]
        gone = asyncio.run(work(stub))
    assert (gone.successor.task_id if gone.successor else None) == successor


def test_a_cancelled_task_ends_the_heartbeat() -> None:
    cancelled = ours(200, '{"expires_at": "2030-01-01T00:00:00Z", "directive": "cancel"}')

    async def work(stub: Stub) -> None:
        await heartbeat_at(stub)[1].run()

    with stub_server(cancelled) as stub, pytest.raises(TaskGone, match="cancelled"):
        asyncio.run(work(stub))


def test_an_absent_coordinator_does_not_end_the_heartbeat() -> None:
    async def work(stub: Stub) -> None:
        beating = asyncio.create_task(heartbeat_at(stub)[1].run())
        while len(stub.seen) < 3:  # noqa: ASYNC110 - the server lives in another thread
            await asyncio.sleep(0.005)
        assert not beating.done()
        beating.cancel()

    with stub_server(reply(502, "<html>", "text/html")) as stub:
        asyncio.run(work(stub))


def test_progress_is_reported_soon_and_cancelling_at_that_moment_ends_the_heartbeat() -> None:
    async def work(stub: Stub) -> None:
        _, heartbeat = heartbeat_at(stub, renew_every_s=60)
        beating = asyncio.create_task(heartbeat.run())
        await asyncio.sleep(0)
        heartbeat.report(Progress(phase=Phase.TRAINING, done=1, total=2))
        await asyncio.sleep(0)  # the report is pending, but the heartbeat has not read it
        beating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(beating, 5)

    with stub_server(RENEWED) as stub:
        asyncio.run(work(stub))


def test_a_pause_before_a_retry_is_never_logged_as_zero(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(retry.Backoff().pause(CoordinatorUnreachable("no answer")))
    assert caplog.messages == ["no answer; trying again in 1 s"]


@pytest.mark.parametrize("is_reachable", [True, False])
def test_releasing_neither_waits_for_the_coordinator_nor_acquires_a_new_lease(
    is_reachable: bool, tmp_path: Path
) -> None:
    async def work(stub: Stub) -> None:
        url = stub.url if is_reachable else f"http://127.0.0.1:{free_port()}"
        async with asyncio.timeout(4):
            await LeaseHeartbeat(api_of(url, "secret"), "instance", a_lease()).release()

    with stub_server(by_call(DELETE=LOST)) as stub:
        asyncio.run(work(stub))
        assert requests(stub, "POST") == []
