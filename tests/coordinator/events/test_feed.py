"""The events of all campaigns in one order: no reader misses one, however many write at the same time."""

import asyncio
import json
import random
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from coordinator.app import create_services
from coordinator.database.ids import new_id
from coordinator.database.tables import CampaignRow, OperatorKeyRow
from coordinator.events.log import record
from coordinator.events.reading import OfAllCampaigns
from coordinator.lifecycle import lock_campaign
from coordinator.services import Services
from coordinator.settings import Settings
from shared.events import EventType
from shared.states import CampaignState
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, campaign_body
from tests.support.suite.tiers import soak

FEED = "/v1/events"
CAMPAIGNS, WRITERS = 4, 12

Enroll = Callable[..., ScriptedAgent]


async def add_campaigns(services: Services) -> list[str]:
    now = services.clock.now()
    ids = [new_id(now) for _ in range(CAMPAIGNS)]
    async with services.database.write("test") as session:
        for campaign_id in ids:
            session.add(
                CampaignRow(
                    id=campaign_id,
                    name="feed",
                    spec_json=campaign_body(),
                    state=CampaignState.PREPARING,
                    created_at=now,
                    resumed_at=now,
                    rounds_closed=0,
                    last_event=0,
                    new_agents=False,
                )
            )
    return ids


async def write(services: Services, ids: list[str], transactions: int, rng: random.Random) -> int:
    """Record events in transactions of uneven length, some of which are rolled back. Returns how many were kept."""
    kept = 0
    for _ in range(transactions):
        changed, n_events = sorted(rng.sample(ids, rng.randint(1, 2))), rng.randint(1, 3)
        with suppress(InterruptedError):
            async with services.database.write("test") as session:
                session.add(OperatorKeyRow(id=new_id(services.clock.now()), key_hash=rng.randbytes(32).hex(),
                                           created_at=services.clock.now()))  # fmt: skip
                await session.flush()  # the transaction has an id before the campaigns are locked
                await asyncio.sleep(rng.random() * 0.01)
                for campaign_id in changed:
                    campaign = await lock_campaign(session, campaign_id)
                    for _ in range(n_events):
                        record(session, campaign, services.clock.now(), EventType.AGENT_INVITED, agent="ada")
                    await asyncio.sleep(rng.random() * 0.01)
                if rng.random() < 0.2:
                    raise InterruptedError
            kept += n_events * len(changed)
    return kept


async def follow(services: Services, positions: list[int], numbers: dict[str, list[int]], done: asyncio.Event) -> None:
    """Read the feed as a stream does: what comes after the last position."""
    source = OfAllCampaigns(services)
    while True:
        is_last = done.is_set()
        events = await source.read(positions[-1] if positions else 0, 5)
        for position, event in events:
            positions.append(position)
            numbers[event.model_dump()["campaign_id"]].append(event.number)
        if is_last and not events:
            return
        await asyncio.sleep(0)


@pytest.mark.parametrize("transactions", [10, soak(40)])
def test_a_reader_sees_every_event_of_concurrent_writers_once_and_in_order(
    data_dir: Path, database_url: str | None, transactions: int
) -> None:
    async def run() -> None:
        settings = Settings(data_dir=data_dir, database_url=database_url)
        replicas = [create_services(settings), create_services(settings)]
        ids = await add_campaigns(replicas[0])
        positions: list[int] = []
        numbers: dict[str, list[int]] = defaultdict(list)
        done = asyncio.Event()
        reader = asyncio.create_task(follow(replicas[0], positions, numbers, done))
        writers = [write(replicas[number % 2], ids, transactions, random.Random(number)) for number in range(WRITERS)]
        kept = sum(await asyncio.gather(*writers))
        done.set()
        await reader
        assert kept > WRITERS * transactions
        assert positions == list(range(1, kept + 1))
        for found in numbers.values():
            assert found == list(range(1, len(found) + 1))
        for services in replicas:
            await services.close()

    asyncio.run(run())


def read_stream(operator: Operator, found: list[Any], until: int, **headers: str) -> None:
    with operator.http.stream("GET", FEED, headers={"Accept": "text/event-stream", **headers}) as reply:
        assert reply.headers["X-Accel-Buffering"] == "no"
        assert reply.headers["Cache-Control"] == "no-store, no-transform"
        for line in reply.iter_lines():
            if line.startswith("data:"):
                found.append(json.loads(line[5:]))
                if len(found) == until:
                    return


@pytest.mark.usefixtures("either_coordinator")
def test_the_feed_streams_the_events_of_all_campaigns_and_resumes(operator: Operator) -> None:
    first = operator.post("/v1/campaigns", campaign_body(name="first"))
    live: list[Any] = []
    watcher = threading.Thread(target=read_stream, args=(operator, live, 4))
    watcher.start()
    operator.wait_until(lambda: live, bool)
    second = operator.post("/v1/campaigns", campaign_body(name="second"))
    operator.campaign(first["id"], "pause")
    operator.campaign("second", "cancel")
    watcher.join(20)
    assert not watcher.is_alive()
    assert [(event["position"], event["campaign_name"], event["number"], event["type"]) for event in live] == [
        (1, "first", 1, "campaign-created"),
        (2, "second", 1, "campaign-created"),
        (3, "first", 2, "campaign-moved"),
        (4, "second", 2, "campaign-moved"),
    ]
    assert {event["campaign_id"] for event in live} == {first["id"], second["id"]}
    assert operator.items(FEED) == live
    assert operator.items(FEED, after=2) == live[2:]
    assert operator.items(FEED, campaign="second") == [live[1], live[3]]
    assert operator.items(FEED, type="campaign-moved", campaign=first["id"]) == [live[2]]
    resumed: list[Any] = []
    read_stream(operator, resumed, 2, **{"Last-Event-ID": "2"})
    assert resumed == live[2:]


@pytest.mark.usefixtures("coordinator")
def test_a_stream_of_one_type_does_not_end_or_lose_its_place_among_others(operator: Operator) -> None:
    for name in ("a", "b", "c"):
        operator.post("/v1/campaigns", campaign_body(name=name))
    found: list[Any] = []

    def read() -> None:
        params, headers = {"type": "campaign-moved"}, {"Accept": "text/event-stream"}
        with operator.http.stream("GET", FEED, params=params, headers=headers) as reply:
            for line in reply.iter_lines():
                if line.startswith("data:"):
                    found.append(json.loads(line[5:]))
                    if len(found) == 2:
                        return

    watcher = threading.Thread(target=read)
    watcher.start()
    for name in ("a", "c"):
        operator.campaign(name, "cancel")
    watcher.join(20)
    assert not watcher.is_alive()
    assert [event["campaign_name"] for event in found] == ["a", "c"]


@pytest.mark.usefixtures("coordinator")
@pytest.mark.parametrize(
    ("params", "headers", "says"),
    [
        ({"after": "-1"}, {}, "after: not the number of an event"),
        ({"after": "x"}, {}, "after: not the number of an event"),
        ({}, {"Last-Event-ID": "1.5"}, "Last-Event-ID: not the number of an event"),
        ({"type": "campaign-ended"}, {}, "type.0: Input should be 'campaign-created'"),
        ({"until": "2100-01-01T00:00:00Z"}, {"Accept": "text/event-stream"}, "until: a stream goes on with new events"),
        ({"cursor": "1"}, {"Accept": "text/event-stream"}, "cursor: a stream has no pages; continue it with Last"),
    ],
)
def test_what_no_feed_has_is_refused(
    operator: Operator, params: dict[str, str], headers: dict[str, str], says: str
) -> None:
    reply = operator.http.get(FEED, params=params, headers=headers)
    assert (reply.status_code, problem(reply).kind) == (422, "invalid")
    assert problem(reply).detail.startswith(says)


def test_the_feed_is_for_operators(operator: Operator, enroll: Enroll) -> None:
    assert enroll("ada").http.get(FEED).status_code == 403
    assert operator.http.get(FEED, headers={"Authorization": ""}).status_code == 401
