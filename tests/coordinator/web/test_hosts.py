"""No reply leads anywhere: the Host header, which a caller chooses, is in none."""

import httpx
import pytest

from tests.support.operator import Operator, problem
from tests.support.raw_http import ask, request
from tests.support.scripted import campaign_body
from tests.support.server import RunningCoordinator

EVIL = "evil.example"


@pytest.mark.parametrize(
    "path", ["/healthz/", "/v1/campaigns/", "/v1/tokens/", "//evil.example/", "/v1", "/", "/v1/enrollments/", "/docs/"]
)
def test_a_path_with_a_slash_too_many_is_not_found(coordinator: RunningCoordinator, path: str) -> None:
    for method in ("GET", "POST", "HEAD"):
        reply = ask(coordinator.url, request(method, path, Host=EVIL))
        assert reply.status == 404, (method, path)
        assert "location" not in reply.headers
        assert EVIL not in str(reply.headers)
        assert method == "HEAD" or reply.problem["type"] == "urn:fedloom:problem:bad-request"


def test_a_location_is_relative(operator: Operator) -> None:
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    reply = operator.http.post(f"/v1/campaigns/{campaign_id}/verifications", json={}, headers={"Host": EVIL})
    assert EVIL not in str(reply.headers) + reply.text
    if reply.is_success:
        assert reply.headers["Location"].startswith("/v1/campaigns/")


def test_unknown_paths_and_methods_are_problems_without_a_key(coordinator: RunningCoordinator) -> None:
    with httpx.Client(base_url=coordinator.url, verify=False) as http:
        for method, path, status in (
            ("GET", "/v1/none", 404),
            ("BREW", "/v1/none", 404),
            ("DELETE", "/healthz", 405),
            ("BREW", "/v1/campaigns", 405),
            ("TRACE", "/v1/campaigns", 405),
            ("OPTIONS", "/v1/campaigns", 405),
            ("GET", "/v1/campaigns/" + "x" * 20_000, 401),
        ):
            try:
                reply = http.request(method, path)
            except httpx.RemoteProtocolError:
                assert method == "BREW"
                continue
            assert reply.status_code == status or (method == "BREW" and reply.status_code == 400), (method, path)
            assert problem(reply).status == reply.status_code
            assert len(reply.content) < 1000
