"""What holds for every listing of the API, those to come included: they are found in the OpenAPI document."""

from pathlib import Path

import pytest

from tests.coordinator.web.listings import Enroll, filled, listings
from tests.support.operator import Operator, problem


@pytest.mark.deep
@pytest.mark.usefixtures("either_coordinator")
def test_every_listing_pages_by_cursor_and_refuses_other_cursors(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    campaign_id = filled(operator, enroll, tmp_path)
    paths = [path.format(campaign=campaign_id) for path in listings(operator)]
    assert len(paths) >= 10
    first_cursors = {}
    for path in paths:
        everything = operator.items(path, limit=1000)
        assert len(everything) > 1, f"{path}: the test needs several items"
        assert operator.all_items(path, limit=1) == everything, path
        assert operator.get(path, limit=len(everything))["next_cursor"] is None, path
        first_cursors[path] = operator.get(path, limit=1)["next_cursor"]
    other_id = operator.items("/v1/campaigns", name="other")[0]["id"]
    for path, others in zip(paths, [*paths[1:], paths[0]], strict=True):
        own = first_cursors[path]
        wrong = ["zzz", "", "0", own[:-1], f"9{own}", own.replace(".", ""), "9" * 40, first_cursors[others]]
        refused = [operator.http.get(path, params={"cursor": cursor}) for cursor in wrong]
        if campaign_id in path:
            refused.append(operator.http.get(path.replace(campaign_id, other_id), params={"cursor": own}))
        for reply in refused:
            assert (reply.status_code, problem(reply).kind) == (422, "invalid"), f"{path}: {reply.url}"
            assert problem(reply).detail == (
                "cursor: not a cursor of this listing; use next_cursor of its previous page"
            )


def test_no_listing_ignores_a_parameter_that_it_does_not_know(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    campaign_id = filled(operator, enroll, tmp_path)
    for path in listings(operator):
        reply = operator.http.get(path.format(campaign=campaign_id), params={"limti": 1})
        assert (reply.status_code, problem(reply).kind) == (422, "invalid"), path
        [error] = problem(reply).errors
        assert error.field == "limti"
        assert error.message.startswith("unknown; did you mean limit? Known here: "), error.message
