"""Pages and the event stream: complete and in order while rows are added."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.web.paging import cursor_after
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]


@pytest.mark.deep
@pytest.mark.usefixtures("either_coordinator")
def test_pages_are_complete_and_stable_while_rows_are_added(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = [enroll(name) for name in ("ada", "bob", "cyd")]
    campaign_id = begin_campaign(operator, tmp_path, agents, rounds=2)
    url = f"/v1/campaigns/{campaign_id}"
    first = operator.get(f"{url}/tasks", limit=2)
    for fill in (1.0, 2.0):
        for agent in agents:
            agent.train(adapter_bytes(tmp_path, fill))
    operator.wait_for(campaign_id, "completed")
    rest, cursor = [], first["next_cursor"]
    while cursor is not None:
        page = operator.get(f"{url}/tasks", limit=2, cursor=cursor)
        rest += page["items"]
        cursor = page["next_cursor"]
    ids = [task["id"] for task in [*first["items"], *rest]]
    everything = operator.items(f"{url}/tasks")
    assert ids == [task["id"] for task in everything] == sorted(set(ids))
    assert len(ids) == 3 + 1 + 6
    for path, key, n in (("metrics", None, 2 * (3 * 8 + 4)), ("rounds", "number", 2), ("adapters", "number", 3)):
        paged = operator.all_items(f"{url}/{path}", limit=1 if key else 7)
        assert paged == operator.items(f"{url}/{path}")
        assert len(paged) == n
    assert [row["name"] for row in operator.all_items("/v1/agents", limit=1)] == ["ada", "bob", "cyd"]
    assert len(operator.all_items("/v1/tokens", limit=1)) == 3
    assert {row["round"] for row in operator.items(f"{url}/tasks", round=2)} == {2}
    assert {row["name"] for row in operator.items(f"{url}/metrics", name="tokens", round=1)} == {"tokens"}


@pytest.mark.usefixtures("either_coordinator")
def test_new_campaigns_shift_no_page(operator: Operator) -> None:
    ids = [operator.post("/v1/campaigns", campaign_body(name=f"c{number}"))["id"] for number in range(5)]
    page = operator.get("/v1/campaigns", limit=2)
    operator.post("/v1/campaigns", campaign_body(name="later"))
    found = [row["id"] for row in page["items"]]
    while page["next_cursor"]:
        page = operator.get("/v1/campaigns", limit=2, cursor=page["next_cursor"])
        found += [row["id"] for row in page["items"]]
    assert found == ids[::-1]
    assert [row["name"] for row in operator.items("/v1/campaigns", name="c3")] == ["c3"]


@pytest.mark.parametrize("key", ["x", "-1", "1.5", "9" * 60, str(1 << 40)])
def test_a_made_up_cursor_is_refused(operator: Operator, key: str) -> None:
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    for path in ("rounds", "adapters", "clients"):
        cursor = cursor_after(f"{campaign_id}/{path}", key)
        reply = operator.http.get(f"/v1/campaigns/{campaign_id}/{path}", params={"cursor": cursor})
        assert (reply.status_code, problem(reply).kind) == (422, "invalid"), path


def stream(operator: Operator, campaign_id: str, found: list[dict[str, Any]], after: int | None = None) -> None:
    """Read the event stream to its end."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after is not None else {})
    with operator.http.stream("GET", f"/v1/campaigns/{campaign_id}/events", headers=headers) as reply:
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        number = None
        for line in reply.iter_lines():
            if line.startswith("id:"):
                number = int(line[3:])
            elif line.startswith("data:"):
                found.append(json.loads(line[5:]))
            elif not line and found:
                assert number == found[-1]["number"]


@pytest.mark.usefixtures("either_coordinator")
def test_the_stream_has_every_event_in_order_and_ends_with_the_campaign(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    live: list[dict[str, Any]] = []
    watcher = threading.Thread(target=stream, args=(operator, campaign_id, live))
    watcher.start()
    ada.prepare()
    bob.prepare()
    ada.init(adapter_bytes(tmp_path))
    ada.train(adapter_bytes(tmp_path, 1.0))
    bob.train(adapter_bytes(tmp_path, 2.0))
    watcher.join(30)
    assert not watcher.is_alive()
    assert [event["number"] for event in live] == list(range(1, len(live) + 1))
    assert (live[-1]["type"], live[-1]["data"]["to"]) == ("campaign-moved", "completed")
    url = f"/v1/campaigns/{campaign_id}/events"
    assert operator.items(url) == live
    resumed: list[dict[str, Any]] = []
    stream(operator, campaign_id, resumed, after=5)
    assert resumed == live[5:]
    ended: list[dict[str, Any]] = []
    stream(operator, campaign_id, ended, after=live[-1]["number"])
    assert ended == []
    paged, after = [], 0
    while page := operator.items(url, after=after, limit=4):
        paged += page
        after = page[-1]["number"]
    assert paged == live


def test_a_stream_ends_when_the_coordinator_stops(coordinator: RunningCoordinator, operator: Operator) -> None:
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    live: list[dict[str, Any]] = []
    watcher = threading.Thread(target=stream, args=(operator, campaign_id, live))
    watcher.start()
    operator.wait_until(lambda: live, bool)
    coordinator.loop.call_soon_threadsafe(coordinator.services.notifiers.close)
    watcher.join(10)
    assert not watcher.is_alive()
