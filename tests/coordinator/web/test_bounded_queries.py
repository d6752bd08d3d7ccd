"""What is said of a bad query is bounded, and one that is too long is refused before it is parsed."""

import time

import httpx
import pytest
from starlette.requests import Request

from coordinator.errors import Invalid, NotFound
from coordinator.web.parameters import MAX_QUERY_BYTES
from coordinator.web.problems import domain_error_reply
from shared.wire.problems import Problem
from tests.support.operator import Operator, problem
from tests.support.raw_http import ask, request
from tests.support.server import RunningCoordinator

PATHS = ("/healthz", "/v1/campaigns", "/v1/none", "/docs")
PIECES = {
    "control characters": "a{n}=%01&",
    "the same name with control characters": "a=%01&",
    "control characters in names": "%01%0a{n}=1&",
    "unknown names": "x{n}=1&",
    "names without values": "a&",
    "no names": "=&",
    "wrong values of a known name": "label=%F0%9F%98%80{n}&",
    "repeated": "limit=1&",
}


def as_long_as_allowed(piece: str) -> str:
    query, n = "", 0
    while len(query) + 20 < MAX_QUERY_BYTES:
        query += piece.replace("{n}", str(n))
        n += 1
    return query


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_a_reply_to_a_query_names_ten_errors_at_most(operator: Operator, piece: str) -> None:
    for path in ("/healthz", "/v1/agents", "/v1/campaigns?name=x"):
        joint = "&" if "?" in path else "?"
        reply = operator.http.get(f"{path}{joint}{as_long_as_allowed(piece)}")
        assert (reply.status_code, problem(reply).kind) == (422, "invalid"), path
        assert 1 <= len(problem(reply).errors) <= 10
        assert len(reply.content) < MAX_QUERY_BYTES
        for each in problem(reply).errors:
            assert len(each.field) <= 120
            assert len(each.message) <= 300


def test_what_the_domain_refuses_is_bounded_as_well() -> None:
    nothing = Request({"type": "http"})
    many = domain_error_reply(nothing, Invalid(*[("f" * 5000, "m" * 5000)] * 50))
    told = Problem.model_validate_json(bytes(many.body))
    assert [(len(each.field), len(each.message)) for each in told.errors] == [(120, 300)] * 10
    assert told.detail.endswith("…; and 40 more")
    assert len(many.body) < 10_000
    long = domain_error_reply(nothing, NotFound("campaign", "n" * 60_000))
    assert len(long.body) < 10_000


def test_a_long_name_or_value_is_not_said_again(operator: Operator) -> None:
    long = "n" * (MAX_QUERY_BYTES - 100)
    for query in (f"{long}=1", f"{long}=%00", f"limit={long}", f"since={long}", f"name={long}", f"cursor={long}"):
        reply = operator.http.get(f"/v1/campaigns?{query}")
        assert len(reply.content) < 2000, query[:20]


def test_a_query_that_is_too_long_is_refused_before_it_is_parsed(coordinator: RunningCoordinator) -> None:
    with httpx.Client(base_url=coordinator.url) as http:
        for path in PATHS:
            reply = http.get(f"{path}?{'a=%01&' * 10_000}")
            assert (reply.status_code, problem(reply).kind, problem(reply).retryable) == (414, "bad-request", False)
            assert problem(reply).detail == "the query of the URL has 60,000 bytes; at most 8,192 are allowed"
            assert len(reply.content) < 1000
        assert http.get(f"/healthz?{'a' * MAX_QUERY_BYTES}").status_code == 422
        assert http.get(f"/healthz?{'a' * (MAX_QUERY_BYTES + 1)}").status_code == 414
    began = time.monotonic()
    assert ask(coordinator.url, request("GET", "/healthz?" + "a&" * 30_000)).status == 414
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("path", ["/v1/campaigns/{}", "/v1/agents/{}", "/v1/blobs/{}", "/v1/campaigns/{}/rounds"])
def test_a_long_path_is_not_said_again_in_full(operator: Operator, path: str) -> None:
    for name in ("n" * 50_000, "%F0%9F%98%80" * 4000):
        reply = operator.http.get(path.format(name))
        assert reply.status_code in (404, 422)
        assert len(reply.content) < 20_000
