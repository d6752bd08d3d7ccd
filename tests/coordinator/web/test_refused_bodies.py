"""Bodies that were once accepted or broke the coordinator, over HTTP on both databases."""

import json

import pytest

from tests.support.operator import Operator, problem
from tests.support.scripted import campaign_body

HALF = "\ud800"


@pytest.mark.usefixtures("either_coordinator")
@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/tokens", {"labels": {"site": HALF}}, "labels.site"),
        ("/v1/tokens", {"labels": {"site": f"north{HALF}"}, "note": "x"}, "labels.site"),
        ("/v1/tokens", {"note": HALF}, "note"),
        ("/v1/campaigns", campaign_body(selection={"labels": {"site": HALF}}), "selection.labels.site"),
        ("/v1/campaigns", campaign_body(dpo={"beta": 0.2}), "dpo"),
        ("/v1/campaigns", campaign_body(dpo={}), "dpo"),
        ("/v1/campaigns", campaign_body(dpo=None), "dpo"),
    ],
)
def test_the_field_is_named(operator: Operator, path: str, body: dict[str, object], field: str) -> None:
    content = json.dumps(body).encode()  # with the half character as an escape
    reply = operator.http.post(path, content=content, headers={"Content-Type": "application/json"})
    assert (reply.status_code, problem(reply).kind) == (422, "invalid")
    assert [each.field for each in problem(reply).errors] == [field]
    assert operator.items("/v1/tokens") == operator.items("/v1/campaigns") == []
