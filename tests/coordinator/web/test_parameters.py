"""Query parameters: unknown, repeated and unprintable ones are refused on every route, with what is known."""

import pytest

from tests.support.operator import Operator, problem

pytestmark = pytest.mark.usefixtures("coordinator")


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ("GET", "/v1/campaigns?nmae=x", "nmae: unknown; did you mean name? Known here: cursor, kind, limit, name, sin"),
        ("GET", "/v1/agents?x=1", "x: unknown; Known here: cursor, label, limit, name, since, state, until"),
        ("GET", "/v1/storage?x=", "x: unknown; no query parameter is known here"),
        ("POST", "/v1/campaigns/none/pause?force=1", "force: unknown; no query parameter is known here"),
        ("GET", "/v1/campaigns?limit=1&limit=2", "limit: it is given more than once"),
        ("GET", "/v1/campaigns?name=a&name=a", "name: it is given more than once"),
        ("GET", "/v1/campaigns?name=a%00b", "name: it has a control character"),
        ("GET", "/v1/events?campaign=%E2%80%AEgnp.exe", "campaign: it has a control character"),
        ("GET", "/v1/agents/a%0Ab", "id_or_name: it has a control character"),
        ("GET", "/healthz?verbose=1", "verbose: unknown; no query parameter is known here"),
    ],
)
def test_what_a_route_does_not_know_is_refused(operator: Operator, method: str, path: str, says: str) -> None:
    reply = operator.http.request(method, path)
    assert (reply.status_code, problem(reply).kind) == (422, "invalid")
    assert problem(reply).detail.startswith(says)


def test_many_unknown_parameters_give_a_short_reply(operator: Operator) -> None:
    reply = operator.http.get("/v1/campaigns", params={f"{'x' * 100}{number}": "1" for number in range(70)})
    assert reply.status_code == 422
    assert len(problem(reply).errors) == 10
    assert problem(reply).detail.endswith("; and 60 more")
    assert len(reply.content) < 6000


@pytest.mark.parametrize("path", ["/v1/agents", "/v1/tokens"])
def test_labels_may_be_repeated(operator: Operator, path: str) -> None:
    assert operator.items(path, label=["site=north", "ward=7"]) == []
    for wrong in ("site", "=north", "si te=x"):
        reply = operator.http.get(path, params={"label": wrong})
        assert (reply.status_code, problem(reply).kind) == (422, "invalid"), wrong
        assert "is not a label; write NAME=VALUE" in problem(reply).detail


@pytest.mark.parametrize(
    ("since", "says"),
    [
        ("yesterday", "since: not a valid time; write one as 2026-01-31T12:00:00Z (ISO 8601 with a zone)"),
        ("1700000000", "since: not a valid time; write one as 2026-01-31T12:00:00Z (ISO 8601 with a zone)"),
        ("2026-01-01T00:00:00", "since: the time has no zone; write one, as in 2026-01-31T12:00:00Z or "),
        ("0001-01-01T00:00:00+10:00", "since: the time is out of range"),
        ("2026-01-02T00:00:00Z", "until: it must be later than since"),
    ],
)
def test_times_that_are_none_are_refused_in_words(operator: Operator, since: str, says: str) -> None:
    for path in ("/v1/campaigns", "/v1/agents", "/v1/tokens", "/v1/events"):
        reply = operator.http.get(path, params={"since": since, "until": "2026-01-02T00:00:00Z"})
        assert (reply.status_code, problem(reply).kind) == (422, "invalid"), path
        assert problem(reply).detail.startswith(says), path


def test_states_that_do_not_exist_are_refused_with_those_that_do(operator: Operator) -> None:
    reply = operator.http.get("/v1/tokens", params={"state": "new"})
    assert problem(reply).detail == "state: Input should be 'open', 'used' or 'expired'"
