"""The reference of the API: complete in every operation, without secrets, and one page that needs nothing else."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from coordinator import __version__
from coordinator.app import ROUTERS
from coordinator.web.parameters import query_parameters
from coordinator.web.reference.document import openapi_document
from coordinator.web.reference.examples import EXAMPLES
from coordinator.web.reference.page import reference_page
from shared.bounds import MAX_INT
from shared.campaign.spec import CampaignSpec
from shared.events import EventType
from shared.wire.agents import PartRequest
from shared.wire.campaigns import RollbackRequest
from shared.wire.enrollments import EnrollmentRequest, SecretRequest, TokenCreate
from shared.wire.problems import ProblemType
from shared.wire.tasks.leases import Failure, LeaseRequest, RenewRequest
from shared.wire.verification import VerificationRequest
from tests.support.operator import Operator, problem
from tests.support.server import RunningCoordinator

DOCUMENT = openapi_document(ROUTERS)
OPERATIONS = [
    pytest.param(path, method, operation, id=f"{method.upper()} {path}")
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
OPEN = {"/healthz", "/readyz", "/v1/enrollments"}
BODIES = (
    *(CampaignSpec, TokenCreate, EnrollmentRequest, SecretRequest, PartRequest, RollbackRequest, VerificationRequest),
    *(LeaseRequest, RenewRequest, Failure),
)


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_every_operation_says_what_it_does_who_may_call_it_and_what_it_answers(
    path: str, method: str, operation: dict[str, Any]
) -> None:
    assert re.fullmatch(r"[A-Z][^_]* .*[^.]", operation["summary"]), "words, not the name of a function"
    words, _, who = operation["description"].partition("**For:**")
    assert len(who) > 10
    assert not words.startswith(operation["summary"]), "the summary is shown before it"
    assert not words[:1].islower()
    assert all(each["description"] for each in operation.get("parameters", ()))
    assert (path in OPEN) == (operation["security"] == [])
    assert {name for each in operation["security"] for name in each} <= {"OperatorKey", "AgentSecret"}
    responses = operation["responses"]
    assert any(status.startswith("2") for status in responses)
    refusals = {status: each for status, each in responses.items() if not status.startswith("2")}
    wanted = {"422", "426", "500", "503"} | ({"401", "403"} if operation["security"] else set())
    wanted |= ({"404"} if "{" in path else set()) | (set() if method in ("get", "head") else {"507"})
    assert wanted <= refusals.keys()
    for status, each in refusals.items():
        if path == "/readyz" and status == "503":
            assert list(each["content"]) == ["application/json"]
            continue
        assert list(each["content"]) == ["application/problem+json"], status
        assert {ProblemType(kind) for kind in each["x-problem-types"]}, status


def test_every_reference_within_the_document_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    named = set(re.findall(r"#/components/schemas/([A-Za-z0-9_-]+)", str(DOCUMENT)))
    assert named <= schemas.keys()
    assert {"Problem", "FieldProblem"} <= named
    assert set(DOCUMENT["components"]["securitySchemes"]) == {"OperatorKey", "AgentSecret"}


def test_the_moves_of_a_campaign_and_a_lease_say_what_refuses_them() -> None:
    def types(method: str, path: str, status: str) -> list[str]:
        return list(DOCUMENT["paths"][path][method]["responses"][status]["x-problem-types"])

    assert types("post", "/v1/campaigns/{campaign}/rollback", "409") == ["illegal-move", "not-kept"]
    assert types("post", "/v1/campaigns", "409") == ["conflict"]
    assert types("put", "/v1/leases/{task_id}/result", "410") == ["lease-lost"]
    assert types("patch", "/v1/uploads/{upload_id}", "422") == ["bad-chunk", "invalid"]
    assert types("get", "/v1/blobs/{sha256}", "416") == ["range-not-satisfiable"]


def test_a_refusal_has_the_titles_that_it_is_answered_with_at_that_endpoint() -> None:
    def described(method: str, path: str, status: str) -> str:
        return str(DOCUMENT["paths"][path][method]["responses"][status]["description"])

    assert described("post", "/v1/campaigns", "409") == "`conflict`: The idempotency key was used with another body"
    assert described("post", "/v1/agents/me/secret", "409") == "`conflict`: The secret was refused"
    full = "`storage-full`: The agent's uploads are full / The storage is full"
    assert described("post", "/v1/leases/{task_id}/uploads", "507") == full
    assert described("post", "/v1/campaigns", "507") == "`storage-full`: The storage is full"
    assert "x-declared" not in str(DOCUMENT)


def test_a_campaign_that_nobody_made_is_refused_as_the_document_says(operator: Operator) -> None:
    reply = operator.http.get("/v1/events", params={"campaign": "nobody"})
    listed = DOCUMENT["paths"]["/v1/events"]["get"]["responses"][str(reply.status_code)]
    assert [problem(reply).kind] == listed["x-problem-types"] == ["not-found"]


def integers(node: Any) -> Iterator[dict[str, Any]]:
    """Every integer's schema in a document."""
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from integers(each)
    if isinstance(node, dict) and node.get("type") == "integer":
        yield node


def test_bounds_of_integers_are_exact_and_the_page_writes_whole_numbers_without_decimals() -> None:
    found = [each[key] for each in integers(DOCUMENT) for key in ("minimum", "maximum") if key in each]
    assert len(found) > 50
    assert {type(bound) for bound in found} == {int}
    sizes = DOCUMENT["components"]["schemas"]["BlobRef"]["properties"]["n_bytes"]
    assert (sizes["minimum"], sizes["maximum"]) == (0, MAX_INT)
    page = reference_page(DOCUMENT)
    assert f"integer, at least 0, at most {MAX_INT}" in page
    assert not re.search(r"(at least|at most|above|below) \d+(\.0\b|[\d.]*e\+)", page)


def test_the_reference_speaks_of_json() -> None:
    assert not re.findall(r".{40}\b(?:None|True|False)\b.{40}", json.dumps(DOCUMENT))


def test_headers_are_described_where_they_are_read() -> None:
    read = {
        each["name"]
        for operations in DOCUMENT["paths"].values()
        for operation in operations.values()
        for each in operation.get("parameters", ())
        if each["in"] == "header"
    }
    named = {"Prefer", "Fedloom-Lease", "Range", "Upload-Offset", "Content-Digest"}
    assert read == named | {"idempotency-key", "last-event-id"}


def test_the_streams_say_what_each_event_carries() -> None:
    for path in ("/v1/events", "/v1/campaigns/{campaign}/events"):
        operation = DOCUMENT["paths"][path]["get"]
        assert {"application/json", "text/event-stream"} == operation["responses"]["200"]["content"].keys()
        for each in EventType:
            assert f"- `{each}`: {', '.join(f'`{key}`' for key in each.carries)}" in operation["description"]


def test_examples_are_valid_requests() -> None:
    models = {model.__name__: model for model in BODIES}
    assert models.keys() == EXAMPLES.keys()
    for name, example in EXAMPLES.items():
        models[name].model_validate(example)
        assert DOCUMENT["components"]["schemas"][name]["examples"] == [example]


def test_every_query_parameter_of_the_document_is_known_to_the_check_of_parameters() -> None:
    for router in ROUTERS:
        for route in router.routes:
            if not route.include_in_schema:  # type: ignore[attr-defined]
                continue
            listed = DOCUMENT["paths"][route.path_format]  # type: ignore[attr-defined]
            for method in route.methods:  # type: ignore[attr-defined]
                parameters = listed[method.lower()].get("parameters", ())
                found = {each["name"] for each in parameters if each["in"] == "query"}
                assert found == {name for name, _ in query_parameters(route.dependant)}  # type: ignore[attr-defined]


class _Links(HTMLParser):
    """Collects what a page refers to, and what it can be referred to by."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.append(value or "")
            if name == "id":
                self.ids.add(value or "")


def test_the_page_shows_every_operation_and_needs_nothing_else(
    operator: Operator, coordinator: RunningCoordinator
) -> None:
    reply = httpx.get(f"{coordinator.url}/docs")
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    page = _Links(reply.text)
    assert not page.tags & {"script", "link", "img", "iframe", "form"}
    outside = {link for link in page.links if not link.startswith("#")}
    assert outside == {"openapi.json"}, "relative, so that it works behind a proxy's prefix"
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    document = operator.get("/openapi.json")
    assert document == DOCUMENT
    for operations in document["paths"].values():
        assert {operation["operationId"] for operation in operations.values()} <= page.ids


def test_who_has_no_key_is_not_told_the_version(coordinator: RunningCoordinator, operator: Operator) -> None:
    assert operator.get("/readyz")["version"] == __version__
    assert operator.get("/healthz")["version"] is None
    for headers in ({}, {"Authorization": "Bearer flo_wrong"}, {"Authorization": "x"}):
        for path in ("/healthz", "/readyz"):
            reply = httpx.get(f"{coordinator.url}{path}", headers=headers)
            assert (reply.status_code, reply.json()["status"], reply.json()["version"]) == (200, "ok", None)
    for path in ("/openapi.json", "/docs"):
        assert __version__ not in httpx.get(f"{coordinator.url}{path}").text
