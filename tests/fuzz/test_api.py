"""Generated requests to every endpoint: no failure of the service, no hang, no traceback, and refusals in one form."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from shared.wire.problems import MEDIA_TYPE, Problem
from tests.fuzz.world import World, corrupted, errors_logged
from tests.support.server import RunningCoordinator
from tests.support.suite.seeds import seed_of_today

TIMEOUT_S = 20
MAX_REFUSAL_BYTES = 64 << 10
"""A refusal names at most a few problems, however long the request was."""
NAMES = st.sampled_from(
    [
        "limit",
        "cursor",
        "label",
        "name",
        "since",
        "state",
        "wait",
        "x",
        "",
        "%00",
        "%01a",
        "%E2%80%AE",
        "%ff",
        "%",
        "a" * 3000,
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        ["", "1", "-1", "9" * 400, "%00", "%0d%0aX: 1", "%1b%5d0;T%07", "%ED%A0%80", "%F0%9F%98%80", "=", "["]
    ),
    st.text(max_size=40).map(quote),
)
PAIRS = st.one_of(st.tuples(NAMES, VALUES).map("=".join), NAMES, st.text(max_size=20).map(quote))
QUERIES = st.one_of(
    st.lists(PAIRS, max_size=12).map("&".join),
    st.tuples(PAIRS, st.sampled_from([2, 30, 300, 3000])).map(lambda drawn: "&".join([drawn[0]] * drawn[1])[:60_000]),
)
"""Queries, encoded: few different parameters, or one many times."""
SENT = ("Authorization", "Fedloom-Lease", "Content-Type")


def world_bounds(*marks: Any, database: str, examples: int) -> Any:
    return pytest.param(database, examples, id=f"{database}, {examples} each", marks=marks)


@pytest.fixture
def world(either_coordinator: RunningCoordinator, tmp_path: Path) -> Iterator[World]:
    made = World(either_coordinator, tmp_path)
    yield made
    made.operator.http.close()


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("database_url", "examples"),
    [
        world_bounds(database="sqlite", examples=2),
        world_bounds(pytest.mark.deep, database="postgres", examples=4),
        world_bounds(pytest.mark.soak, database="sqlite", examples=1000),
        world_bounds(pytest.mark.soak, database="postgres", examples=500),
    ],
    indirect=["database_url"],
)
def test_no_request_makes_the_service_fail(world: World, examples: int) -> None:
    schema = schemathesis.openapi.from_dict(world.operator.get("/openapi.json"))
    operations = [each.ok() for each in schema.get_all_operations()]
    assert len(operations) > 30
    with errors_logged() as errors, httpx.Client(base_url=world.coordinator.url, timeout=TIMEOUT_S) as http:
        for operation in operations:
            world.mend()
            _send_examples(operation, world, http, examples)
            assert not errors, f"{operation.label}: {[each.getMessage() for each in errors]}"
        assert http.get("/readyz").status_code == 200
        world.renew()  # what the requests left behind stops no other campaign
    assert not errors


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("database_url", "examples"),
    [
        world_bounds(database="sqlite", examples=300),
        world_bounds(pytest.mark.deep, database="postgres", examples=1000),
        world_bounds(pytest.mark.soak, database="sqlite", examples=10_000),
    ],
    indirect=["database_url"],
)
def test_no_query_makes_the_service_fail(world: World, examples: int) -> None:
    """Long queries, repeated parameters, control characters, halves of escapes: at any path that takes a GET."""
    paths = [*_paths(world), "/docs", "/openapi.json", "/v1/none"]
    with errors_logged() as errors, httpx.Client(base_url=world.coordinator.url, timeout=TIMEOUT_S) as http:

        @generated(examples)
        @given(path=st.sampled_from(paths), query=QUERIES, caller=st.sampled_from(sorted(world.secrets)))
        def send(path: str, query: str, caller: str) -> None:
            secret = world.secrets[caller]
            headers = {"Authorization": f"Bearer {secret}"} if secret is not None else {}
            _check(http, httpx.Request("GET", f"{world.coordinator.url}{path}?{query}", headers=headers))

        send()
        assert not errors, [each.getMessage() for each in errors]
        assert http.get("/readyz").status_code == 200


def generated(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a property with so many generated examples, those of today."""
    bounded = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    return lambda check: seed(seed_of_today())(bounded(check))


def _paths(world: World) -> list[str]:
    """The paths that a GET reads, with ids that exist, without the streams."""
    listed = world.operator.get("/openapi.json")["paths"]
    return [path.format(**world.ids) for path, operations in listed.items() if "get" in operations]


def _send_examples(operation: Any, world: World, http: httpx.Client, examples: int) -> None:
    modes = [GenerationMode.POSITIVE]
    if operation.body or any(each.location.value == "query" for each in operation.iter_parameters()):
        modes.append(GenerationMode.NEGATIVE)  # nothing else has a wrong type
    cases = st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])

    @generated(examples)
    @given(case=cases, caller=st.sampled_from(sorted(world.secrets)), known=st.booleans(), random=st.randoms())
    def send(case: Case, caller: str, known: bool, random: Any) -> None:
        _check(http, _request(case, world, caller, known, random))

    send()


def _request(case: Case, world: World, caller: str, known: bool, random: Any) -> httpx.Request:
    """The request of a case. known: with ids that exist, and the lease that is live."""
    if known:
        for name in case.path_parameters or {}:
            case.path_parameters[name] = world.ids[name]
    sent = case.as_transport_kwargs(base_url=world.coordinator.url)
    headers = {name: value for name, value in sent["headers"].items() if name not in SENT}
    if (secret := world.secrets[caller]) is not None:
        headers["Authorization"] = f"Bearer {secret}"
    if known:
        headers["Fedloom-Lease"] = world.lease_header
    body = case.body if isinstance(case.body, dict | list) else None
    if body is not None and random.random() < 0.5:
        body = corrupted(body, random)
    content = json.dumps(body).encode() if body is not None else sent.get("data") or b""
    headers["Content-Type"] = "application/json"
    params = [
        (name, each)
        for name, value in (sent.get("params") or {}).items()
        for each in (value if isinstance(value, list) else [value])  # a parameter that may be repeated
    ]
    return httpx.Request(sent["method"], sent["url"], params=params, headers=headers, content=content)


def _check(http: httpx.Client, request: httpx.Request) -> None:
    reply = http.send(request, follow_redirects=False)
    told = f"{request.method} {request.url} {request.content[:2000]!r}: {reply.status_code} {reply.text[:2000]}"
    assert reply.status_code < 500, told
    assert "Traceback" not in reply.text, told
    if reply.status_code >= 400 and request.method != "HEAD":
        assert reply.headers["Content-Type"].startswith(MEDIA_TYPE), told
        assert len(reply.content) <= MAX_REFUSAL_BYTES, told[:1000]
        Problem.model_validate_json(reply.content)
