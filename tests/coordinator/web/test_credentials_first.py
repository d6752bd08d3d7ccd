"""Whoever has no valid key, or the wrong one, is refused before a byte of the body is read."""

import sys
from collections.abc import Callable, Iterator

import pytest
from fastapi import APIRouter, FastAPI

from coordinator.app import ROUTERS, create_app
from coordinator.database.prepared import Prepared
from coordinator.web.routes import BoundedRoute
from shared.credentials import AGENT_PREFIX, OPERATOR_PREFIX, new_secret
from shared.wire.base import CHUNK_BYTES
from tests.support.operator import Operator, problem
from tests.support.raw_http import ask, connected, is_closed, read_reply, request
from tests.support.scripted import ScriptedAgent
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]

KEYS = (OPERATOR_PREFIX, AGENT_PREFIX)
FOR_BOTH = {"/v1/blobs/none"}
ANNOUNCED = str(64 << 10)
"""Bytes of a body that is announced and never sent: only who does not wait for it can answer."""


def calls(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield method and path of every call that needs a key."""
    for path, methods in app.openapi()["paths"].items():
        if path.startswith("/v1/") and path != "/v1/enrollments":
            shown = path.replace("{which}", "latest")
            for name in (
                "campaign",
                "campaign_id",
                "task_id",
                "token_id",
                "id_or_name",
                "upload_id",
                "sha256",
                "verification_id",
            ):
                shown = shown.replace(f"{{{name}}}", "none")
            assert "{" not in shown, "name a value for this parameter"
            yield from ((method.upper(), shown) for method in methods)


def with_body_to_come(method: str, path: str, authorization: str | None) -> bytes:
    headers = {"Content_Length": ANNOUNCED, "Content_Type": "application/json"}
    if authorization is not None:
        headers["Authorization"] = authorization
    return request(method, path, **headers)


def without_body(method: str, path: str, key: str) -> bytes:
    return request(method, path, Authorization=f"Bearer {key}")


@pytest.fixture
def every_call(coordinator: RunningCoordinator) -> list[tuple[str, str]]:
    found = list(calls(create_app(coordinator.services, with_engine=False)))
    assert len(found) >= 30
    return found


def test_every_router_has_the_routes_that_settle_this() -> None:
    routers = {
        name: module.router
        for name, module in list(sys.modules.items())
        if name.startswith("coordinator.") and isinstance(getattr(module, "router", None), APIRouter)
    }
    assert len(routers) >= 10
    assert {*map(id, ROUTERS)} < {*map(id, routers.values())}
    for name, router in routers.items():
        assert router.routes, name
        for route in router.routes:
            assert isinstance(route, BoundedRoute), f"{name}: give its APIRouter route_class=BoundedRoute"


def test_no_call_reads_the_body_of_a_caller_it_does_not_know(
    coordinator: RunningCoordinator, every_call: list[tuple[str, str]]
) -> None:
    unknown = [None, "", "Bearer", "Basic YTpi", "Bearer x", *(f"Bearer {new_secret(each)}" for each in KEYS)]
    for number, (method, path) in enumerate(every_call):
        with connected(coordinator.url, with_body_to_come(method, path, unknown[number % len(unknown)])) as connection:
            reply = read_reply(connection, method)
            assert reply.status == 401, (method, path)
            assert reply.headers["connection"] == "close"
            if number < 3:
                assert is_closed(connection)
    for authorization in unknown:
        reply = ask(coordinator.url, with_body_to_come("POST", "/v1/tokens", authorization))
        assert (reply.status, reply.problem["type"]) == (401, "urn:fedloom:problem:unauthenticated"), authorization


def test_no_call_reads_the_body_of_a_caller_with_the_wrong_role(
    coordinator: RunningCoordinator, every_call: list[tuple[str, str]], enroll: Enroll
) -> None:
    needed = {enroll("ada").identity["secret"]: "an operator key", coordinator.key: "an agent's secret"}
    for method, path in every_call:
        if path in FOR_BOTH:
            continue
        wrong = [key for key in needed if ask(coordinator.url, without_body(method, path, key)).status == 403]
        assert len(wrong) == 1, (method, path)
        reply = ask(coordinator.url, with_body_to_come(method, path, f"Bearer {wrong[0]}"))
        assert (reply.status, reply.headers["connection"]) == (403, "close"), (method, path)
        if method != "HEAD":
            assert reply.problem["detail"] == f"this request needs {needed[wrong[0]]}"


def test_a_client_that_sends_its_body_at_once_reads_why_it_is_refused(operator: Operator) -> None:
    for n_bytes in (1000, 1 << 20, CHUNK_BYTES):
        reply = operator.http.patch(
            "/v1/uploads/none", content=b"x" * n_bytes, headers={"Authorization": "Bearer fla_x"}
        )
        assert (reply.status_code, problem(reply).kind) == (401, "unauthenticated")


def test_unknown_paths_and_methods_do_not_wait_for_a_body(coordinator: RunningCoordinator) -> None:
    for method, path, status in (("POST", "/v1/none", 404), ("POST", "/none", 404), ("PUT", "/v1/campaigns", 405)):
        reply = ask(coordinator.url, with_body_to_come(method, path, None))
        assert (reply.status, reply.headers["connection"]) == (status, "close")


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "Bearer  {}", "Bearer     {}", "Bearer {}  "])
def test_a_key_is_found_behind_one_space_or_several(coordinator: RunningCoordinator, form: str) -> None:
    sent = request("GET", "/v1/campaigns", Authorization=form.format(coordinator.key))
    assert ask(coordinator.url, sent).status == 200


def test_spaces_are_no_key(coordinator: RunningCoordinator) -> None:
    for authorization in ("Bearer", "Bearer ", "Bearer     "):
        reply = ask(coordinator.url, request("GET", "/v1/campaigns", Authorization=authorization))
        assert "the Authorization header is malformed" in reply.problem["detail"]


def test_a_caller_is_looked_up_once_for_a_request(operator: Operator, coordinator: RunningCoordinator) -> None:
    asked = []
    ask = coordinator.services.database.ask

    async def counting(query: Prepared, **values: object) -> object:
        asked.append(str(query))
        return await ask(query, **values)

    coordinator.services.database.ask = counting  # type: ignore[assignment,method-assign]
    operator.get("/v1/campaigns")
    assert len([each for each in asked if "operator_keys" in each]) == 1
