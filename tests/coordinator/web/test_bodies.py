"""Bodies: how large they may be, and what is said of one that is not JSON."""

from collections.abc import Callable

import pytest

from shared.bounds import MAX_INT
from shared.metrics import MAX_METRICS
from shared.wire.base import CHUNK_BYTES
from shared.wire.tasks.leases import Failure, FailureKind, LeaseRequest, Phase, Progress, RenewRequest
from tests.support.operator import Operator, problem
from tests.support.raw_http import ask, request
from tests.support.scripted import ScriptedAgent
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]
JSON = {"Content-Type": "application/json"}
FILE = f"purpose=delta&sha256={'0' * 64}&n_bytes=1"

BROKEN = [
    (b'{"note": x}', "line 1, column 10: not JSON: Expecting value"),
    (b'{\n "note": "x" 1}', "line 2, column 14: not JSON: Expecting ',' delimiter"),
    (b"{", "line 1, column 2: not JSON: Expecting property name enclosed in double quotes"),
    (b'{"note": "fle_secret', "line 1, column 10: not JSON: Unterminated string starting at"),
    (b'{"note": "\xff"}', "byte 11: not UTF-8; send JSON in UTF-8"),
    ('{"note": "x"}'.encode("utf-16"), "byte 1: not UTF-8; send JSON in UTF-8"),
    (b"\xef\xbb\xbf{}", "line 1, column 1: not JSON: Unexpected UTF-8 BOM (decode using utf-8-sig)"),
    (b"[" * 3500, "body: the JSON is nested too deeply"),
    (b'{"a":' * 3500, "body: the JSON is nested too deeply"),
    (b'{"expires_in_s": NaN}', "body: the JSON has NaN, which is not a number there"),
    (b'{"expires_in_s": -Infinity}', "body: the JSON has -Infinity, which is not a number there"),
    (b'{"expires_in_s": ' + b"9" * 5000 + b"}", "body: the JSON has a number with too many digits"),
    (b'{"note": "a", "note": "b"}', "note: the JSON has this key twice in one object"),
    (b'{"labels": {"a": "1", "a": "1"}}', "a: the JSON has this key twice in one object"),
    (
        b'{"note": "\\ud800"}',
        "note: not JSON: an escape \\ud800 to \\udfff stands alone; it is half a character",
    ),
    (
        b'{"note": "x", "labels": {"\\ud800": "a"}}',
        "labels: not JSON: an escape \\ud800 to \\udfff stands alone; it is half a character",
    ),
    (
        b'["x", ["\\udfff"]]',
        "1.0: not JSON: an escape \\ud800 to \\udfff stands alone; it is half a character",
    ),
    (b"", "body: the request has no body; send one in JSON"),
]


@pytest.mark.parametrize(("body", "detail"), BROKEN, ids=lambda each: repr(each)[:24])
def test_a_body_that_is_no_json_is_refused_with_the_place(operator: Operator, body: bytes, detail: str) -> None:
    reply = operator.http.post("/v1/tokens", content=body, headers=JSON)
    assert (reply.status_code, problem(reply).kind) == (422, "invalid")
    assert problem(reply).detail == detail
    assert "fle_secret" not in reply.text


def test_json_in_any_form_is_read(operator: Operator) -> None:
    for note, body in (
        ("\U0001f642", b'{"note": "\\ud83d\\ude42"}'),
        ("\U0001f642", '{"note": "\U0001f642"}'.encode()),
        ("C:\\udder", b'{"note": "C:\\\\udder"}'),
        ("", b" {\n}\n"),
    ):
        reply = operator.http.post("/v1/tokens", content=body, headers=JSON)
        assert (reply.status_code, reply.json()["note"]) == (201, note)


@pytest.mark.parametrize(
    "media_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_a_body_that_is_not_declared_as_json_gets_a_hint(operator: Operator, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    reply = operator.http.post("/v1/tokens", content=b'{"note": "x"}', headers=headers)
    assert reply.status_code == 415
    assert problem(reply).detail == (
        "the body is not declared as JSON; with curl, add -H 'Content-Type: application/json'"
    )


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"])
def test_every_spelling_of_json_is_accepted(operator: Operator, media_type: str) -> None:
    reply = operator.http.post("/v1/tokens", content=b"{}", headers={"Content-Type": media_type})
    assert reply.status_code == 201


def test_each_call_takes_no_more_than_it_needs(operator: Operator, enroll: Enroll) -> None:
    ada = enroll("ada")
    for http, method, path, limit in (
        (operator.http, "POST", "/v1/enrollments", 4 << 10),
        (operator.http, "POST", "/v1/tokens", 64 << 10),
        (operator.http, "POST", "/v1/campaigns", 1 << 20),
        (ada.http, "PUT", "/v1/leases/none/result", 1 << 20),
        (ada.http, "POST", "/v1/leases", 4 << 10),
        (ada.http, "PATCH", "/v1/leases/none", 8 << 10),
        (ada.http, "PUT", "/v1/leases/none/failure", 32 << 10),
        (ada.http, "POST", "/v1/agents/me/secret", 4 << 10),
    ):
        too_much = b" " * (limit + 1)
        whole = http.request(method, path, content=too_much, headers=JSON)
        chunked = http.request(method, path, content=iter([too_much[:-1], b" "]), headers=JSON)
        assert problem(whole).detail == f"{limit + 1} bytes are too many; at most {limit} are allowed here", path
        assert problem(chunked).detail == f"the body is too large; at most {limit} are allowed here", path
        for reply in (whole, chunked):
            assert (reply.status_code, problem(reply).kind) == (413, "too-large")
        just_right = http.request(method, path, content=b"{}".ljust(limit), headers=JSON)
        assert just_right.status_code != 413, path


def test_the_largest_valid_messages_fit(enroll: Enroll) -> None:
    ada = enroll("ada")
    metrics = {f"m{number:02d}".ljust(40, "x"): -1.2345678901234567e-300 for number in range(MAX_METRICS)}
    progress = Progress(phase=Phase.SCORING_REFERENCE, done=MAX_INT, total=MAX_INT, loss=-1e-300, metrics=metrics)
    for method, path, message in (
        ("PATCH", "/v1/leases/none", RenewRequest(progress=progress)),
        ("PUT", "/v1/leases/none/failure", Failure(kind=FailureKind.CRASH, message="\U0001f642" * 4000)),
        ("POST", "/v1/leases", LeaseRequest(instance_id="\U0001f642" * 64, version="\U0001f642" * 40)),
    ):
        reply = ada.http.request(method, path, content=message.model_dump_json(), headers=JSON)
        assert reply.status_code in (204, 410), reply.text


def test_a_chunk_of_an_upload_is_bounded(enroll: Enroll) -> None:
    ada = enroll("ada")
    for method, path in (("PATCH", "/v1/uploads/none"), ("POST", f"/v1/leases/none/uploads?{FILE}")):
        reply = ada.http.request(method, path, content=b"x" * (CHUNK_BYTES + 1))
        assert (reply.status_code, problem(reply).kind) == (413, "too-large")


def test_a_call_without_a_body_takes_none(operator: Operator) -> None:
    for method, path in (
        ("GET", "/v1/campaigns"),
        ("GET", "/healthz"),
        ("DELETE", "/v1/tokens/none"),
        ("POST", "/v1/campaigns/none/pause"),
    ):
        for content in (b"{}", iter([b"{", b"}"])):
            reply = operator.http.request(method, path, content=content)
            assert (reply.status_code, problem(reply).kind) == (413, "too-large"), (method, path)
            assert problem(reply).detail == "this request takes no body; send it without one"
        empty = operator.http.request(method, path, content=iter([b""]))
        assert empty.status_code in (200, 404)


def test_an_announced_length_that_is_no_number_is_refused(coordinator: RunningCoordinator) -> None:
    for length in ("-1", "1e3", "99999999999999999999999", "1, 1"):
        sent = request("POST", "/v1/enrollments", Content_Length=length, Content_Type="application/json")
        assert ask(coordinator.url, sent).status in (400, 413), length


def test_a_body_may_be_large_in_text_but_not_in_values(operator: Operator) -> None:
    text = 'a, {b} [c] \\"d\\", ' * 1500
    reply = operator.http.post("/v1/tokens", json={"note": text})
    assert [each.field for each in problem(reply).errors] == ["note"]
    many = {"selection": {"labels": {f"label-{number}": text[:20] for number in range(4_001)}}}
    reply = operator.http.post("/v1/campaigns", json=many)
    assert (reply.status_code, problem(reply).detail) == (422, "body: the JSON has more than 4,000 values")
