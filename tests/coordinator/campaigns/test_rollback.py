"""Rollback to an earlier round: what is undone, what stays, how the campaign continues, and refusals."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from coordinator.database.tables import BlobUseRow, ParticipantRow
from coordinator.engine import loop
from coordinator.engine.closing import AggregatedRound
from coordinator.errors import NotFound
from coordinator.services import Services
from shared.campaign.sampling import draw_order
from shared.digest import sha256_hex
from shared.states import BlobKind
from tests.support.messages import evaluated
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body, slots_bytes
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator
from tests.support.suite.tiers import soak

Enroll = Callable[..., ScriptedAgent]
ALGORITHMS: dict[str, tuple[str, ...]] = {"fedavg": (), "fedavgm": (), "scaffold": ("delta_c",)}
"""Algorithms without state, with server state, and with server and client state; and the extras of each."""


def delta_of(folder: Path, agent: ScriptedAgent, number: int, *, astray: bool = False) -> bytes:
    """An agent's delta of a round, always the same."""
    place = sum(map(ord, agent.name)) % 7
    return adapter_bytes(folder, number + place / 8 + (100 if astray else 0))


def do_rounds(
    folder: Path, agents: Iterable[ScriptedAgent], numbers: Iterable[int], *, astray: bool = False, algorithm: str = ""
) -> list[dict[str, Any]]:
    """Train in the given rounds. Returns the leases."""
    slots = ALGORITHMS.get(algorithm, ())
    leases = []
    for number in numbers:
        for agent in agents:
            lease = agent.lease("train")
            assert lease["assignment"]["round"] == number
            extras = slots_bytes(folder, number / 4, *slots) if slots else None
            leases.append(agent.train(delta_of(folder, agent, number, astray=astray), lease, extras))
    return leases


def roll_back(operator: Operator, campaign_id: str, number: int) -> Any:
    return operator.post(f"/v1/campaigns/{campaign_id}/rollback", {"round": number})


def refused(operator: Operator, campaign_id: str, number: int) -> tuple[int, str, str]:
    reply = operator.http.post(f"/v1/campaigns/{campaign_id}/rollback", json={"round": number})
    return reply.status_code, problem(reply).kind, problem(reply).detail


def wait_until_closed(operator: Operator, campaign_id: str, number: int) -> None:
    path = f"/v1/campaigns/{campaign_id}"
    operator.wait_until(lambda: operator.get(path), lambda found: found["rounds_closed"] == number)


def adapters(operator: Operator, campaign_id: str) -> list[str]:
    return [row["blob"]["sha256"] for row in operator.items(f"/v1/campaigns/{campaign_id}/adapters")]


def events(operator: Operator, campaign_id: str, *types: str) -> list[dict[str, Any]]:
    """Data of the events of the given types. Checks that all events are numbered without gaps."""
    found = operator.items(f"/v1/campaigns/{campaign_id}/events")
    assert [event["number"] for event in found] == list(range(1, len(found) + 1))
    return [event["data"] for event in found if event["type"] in types]


async def counted(services: Services, campaign_id: str) -> dict[str, str | None]:
    async with services.database.read() as session:
        rows = await session.scalars(select(ParticipantRow).where(ParticipantRow.campaign_id == campaign_id))
        return {row.agent_name: row.committed_update_sha256 for row in rows.all()}


@pytest.mark.parametrize("algorithm", [soak("fedavg"), soak("fedavgm"), "scaffold"])
def test_a_run_that_was_rolled_back_ends_as_an_uninterrupted_one(
    data_dir: Path, database_url: str | None, tmp_path: Path, algorithm: str
) -> None:
    """The run diverged for two rounds and completed. The coordinator was restarted before the run continued."""
    settings = quick_settings(data_dir, database_url)
    body = {"rounds": 4, "algorithm": {"name": algorithm}}
    with running_coordinator(settings) as running:
        operator = Operator(running.url, running.key)
        agents = [ScriptedAgent(running.url, operator.token(), name) for name in ("ada", "bob")]
        unbroken = begin_campaign(operator, tmp_path, agents, **body)
        leases = do_rounds(tmp_path, agents, (1, 2, 3, 4), algorithm=algorithm)
        operator.wait_for(unbroken, "completed")
        expected = adapters(operator, unbroken)
        broken = begin_campaign(operator, tmp_path, agents, **body)
        do_rounds(tmp_path, agents, (1, 2), algorithm=algorithm)
        do_rounds(tmp_path, agents, (3, 4), algorithm=algorithm, astray=True)
        operator.wait_for(broken, "completed")
        assert adapters(operator, broken) != expected
        found = roll_back(operator, broken, 2)
        assert (found["state"], found["reason"]) == ("paused", "rolled back to round 2 by the operator")
        assert (found["rounds_closed"], found["final_adapter"], found["ended_at"]) == (2, None, None)
    with running_coordinator(settings) as running:
        operator = Operator(running.url, running.key)
        for agent in agents:
            agent.http.base_url = running.url
        assert agents[0].ask(0).status_code == 204
        assert operator.post(f"/v1/campaigns/{broken}/resume")["state"] == "running"
        again = do_rounds(tmp_path, agents, (3, 4), algorithm=algorithm)
        operator.wait_for(broken, "completed")
        assert adapters(operator, broken) == expected
        for lease, first in zip(again, leases[4:], strict=True):  # the same jobs as in the uninterrupted run
            same = ("adapter", "broadcast", "committed_update")
            assert [lease["assignment"][field] for field in same] == [first["assignment"][field] for field in same]
        closed = events(operator, broken, "round-closed")
        assert [event["round"] for event in closed] == [1, 2, 3, 4, 3, 4]
        for agent in agents:
            agent.http.close()


@pytest.mark.usefixtures("either_coordinator")
def test_later_rounds_are_undone_and_stay_in_the_events(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = ada, _ = enroll("ada"), enroll("bob")
    campaign_id: str = operator.post("/v1/campaigns", campaign_body(rounds=3, evaluation={"every": 1}))["id"]
    for agent in agents:
        agent.prepare(n_held_out=5)
    ada.init(adapter_bytes(tmp_path))
    for number, loss in enumerate((3.0, 1.5, 2.0, 1.0)):
        for agent in agents:
            agent.evaluate(loss)
        if number < 3:
            do_rounds(tmp_path, agents, [number + 1])
    assert operator.wait_for(campaign_id, "completed")["best_adapter"] == 3
    before = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    digests = adapters(operator, campaign_id)

    found = roll_back(operator, campaign_id, 1)
    assert (found["rounds_closed"], found["best_adapter"], found["final_adapter"]) == (1, 1, None)
    assert operator.items(f"/v1/campaigns/{campaign_id}/adapters") == before[:2]
    assert [row["number"] for row in operator.items(f"/v1/campaigns/{campaign_id}/rounds")] == [1]
    metrics = operator.items(f"/v1/campaigns/{campaign_id}/metrics")
    assert {row["round"] for row in metrics} == {0, 1}
    assert [row["value"] for row in metrics if row["name"] == "held_out_loss"] == [3.0] * 3 + [1.5] * 3
    tasks = operator.items(f"/v1/campaigns/{campaign_id}/tasks")
    superseded = {(task["kind"], task["round"]) for task in tasks if task["state"] == "superseded"}
    assert superseded == {(kind, number) for kind in ("train", "evaluate") for number in (2, 3)}
    for digest in digests[:2]:
        assert operator.http.get(f"/v1/blobs/{digest}").status_code == 200
    for digest in digests[2:]:
        assert operator.http.get(f"/v1/blobs/{digest}").status_code == 404
    assert operator.get("/v1/storage")["n_blobs"] == 2
    dropped = events(operator, campaign_id, "round-rolled-back")
    assert [(each["round"], each["adapter_sha256"], each["metrics"].get("held_out_loss")) for each in dropped] == [
        (3, digests[3], 1.0),
        (2, digests[2], 2.0),
    ]
    assert [each["contributions"] for each in dropped] == [before[3]["contributions"], before[2]["contributions"]]
    assert events(operator, campaign_id, "campaign-rolled-back") == [
        {"round": 1, "adapter_sha256": digests[1], "undone": [2, 3]}
    ]

    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    do_rounds(tmp_path, agents, [2])
    for agent in agents:
        agent.evaluate(0.5)
    do_rounds(tmp_path, agents, [3])
    for agent in agents:
        agent.evaluate(0.75)
    campaign = operator.wait_for(campaign_id, "completed")
    assert (campaign["best_adapter"], campaign["final_adapter"]) == (2, 3)
    assert adapters(operator, campaign_id) == digests
    losses = [row["metrics"].get("held_out_loss") for row in operator.items(f"/v1/campaigns/{campaign_id}/adapters")]
    assert losses == [3.0, 1.5, 0.5, 0.75]


@pytest.mark.usefixtures("either_coordinator")
def test_the_open_round_is_undone_and_its_agents_hear_cancel(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, cyd = agents = enroll("ada"), enroll("bob"), enroll("cyd")
    campaign_id = begin_campaign(operator, tmp_path, agents, rounds=2)
    do_rounds(tmp_path, agents, [1])
    done = ada.train(delta_of(tmp_path, ada, 2, astray=True))
    at_work = bob.lease("train")
    digest = bob.upload(at_work, "delta", delta_of(tmp_path, bob, 2, astray=True))
    cyd.failure(cyd.lease("train"), kind="crash", message="power cut")

    assert roll_back(operator, campaign_id, 1)["rounds_closed"] == 1
    assert bob.renew(at_work).json()["directive"] == "cancel"
    assert bob.result(at_work, bob.train_result(digest)).status_code == 410
    assert bob.failure(at_work, kind="crash", message="no").status_code == 410
    sent_again = ada.train_result(sha256_hex(delta_of(tmp_path, ada, 2, astray=True)))
    assert ada.result(done, sent_again).status_code == 410
    assert all(agent.ask(0).status_code == 204 for agent in agents)
    operator.wait_until(lambda: operator.get("/v1/storage"), lambda found: set(found["bytes_by_kind"]) == {"adapter"})
    assert [(each["round"], each["adapter_sha256"]) for each in events(operator, campaign_id, "round-rolled-back")] == [
        (2, None)
    ]

    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    do_rounds(tmp_path, agents, [2])  # all three: the failure before the rollback is forgotten
    operator.wait_for(campaign_id, "completed")
    [*_, final] = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    shares = [share["update_sha256"] for share in final["contributions"]]
    assert shares == [sha256_hex(delta_of(tmp_path, agent, 2)) for agent in agents]


@pytest.mark.usefixtures("either_coordinator")
def test_a_client_drawn_for_an_undone_round_can_be_drawn_again(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll(name) for name in ("ada", "bob", "cyd")]
    campaign_id = begin_campaign(operator, tmp_path, agents, selection={"minimum": 2, "clients_per_round": 2})
    first, second, spare = (agents[client] for client in draw_order(0, 1, range(3)))
    for number in range(2):
        first.train(delta_of(tmp_path, first, 1))
        second.failure(second.lease("train"), kind="crash", message="power cut")
        lease = spare.lease("train")
        if number == 0:
            roll_back(operator, campaign_id, 0)
            operator.post(f"/v1/campaigns/{campaign_id}/resume")
    spare.train(delta_of(tmp_path, spare, 1), lease)
    operator.wait_for(campaign_id, "completed")
    [_, final] = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    assert {share["agent_name"] for share in final["contributions"]} == {first.name, spare.name}


@pytest.mark.usefixtures("either_coordinator")
def test_the_evaluation_of_the_rollback_target_continues(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada = enroll("ada")
    body = campaign_body(rounds=2, evaluation={"every": 1}, selection={"minimum": 1})
    campaign_id: str = operator.post("/v1/campaigns", body)["id"]
    ada.prepare(n_held_out=5)
    ada.init(adapter_bytes(tmp_path))
    ada.evaluate(3.0)
    do_rounds(tmp_path, [ada], [1])
    lease = ada.lease("evaluate")
    body = evaluated(2.0, n_rows=5, n_tokens=100)
    roll_back(operator, campaign_id, 1)
    assert ada.renew(lease).json()["directive"] == "continue"
    assert ada.result(lease, body).status_code == 200
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    do_rounds(tmp_path, [ada], [2])
    lease = ada.lease("evaluate")
    operator.wait_for(campaign_id, "finishing")
    assert roll_back(operator, campaign_id, 1)["best_adapter"] == 1
    assert ada.renew(lease).json()["directive"] == "cancel"
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    do_rounds(tmp_path, [ada], [2])
    ada.evaluate(1.0)
    assert operator.wait_for(campaign_id, "completed")["best_adapter"] == 2


def test_committed_updates_are_restored_from_the_lineage(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """Cyd sits out round 2, bob lost its state in round 3."""
    agents = enroll("ada"), enroll("bob"), enroll("cyd")
    campaign_id = begin_campaign(operator, tmp_path, agents, rounds=6, algorithm={"name": "scaffold"})
    extras = slots_bytes(tmp_path, 0.25, "delta_c")
    broadcasts: dict[int, Any] = {}
    for number in range(1, 6):
        for agent in agents:
            lease = agent.lease("train")
            broadcasts[number - 1] = lease["assignment"]["broadcast"]
            if (agent.name, number) == ("cyd", 2):
                agent.failure(lease, kind="crash", message="no")
                continue
            lost = (agent.name, number) == ("bob", 3)
            agent.train(delta_of(tmp_path, agent, number), lease, extras, client_state_lost=lost)
    wait_until_closed(operator, campaign_id, 5)

    def updates_of(*numbers: int) -> dict[str, str | None]:
        return {
            agent.name: sha256_hex(delta_of(tmp_path, agent, number)) if number else None
            for agent, number in zip(agents, numbers, strict=True)
        }

    def now() -> dict[str, str | None]:
        return either_coordinator.run(counted(either_coordinator.services, campaign_id))

    assert now() == updates_of(5, 5, 5)
    assert broadcasts[3] is None
    assert [event["agents"] for event in events(operator, campaign_id, "algorithm-restarted")] == [["bob"]]
    for number, expected in (
        (4, updates_of(4, 4, 4)),
        (3, updates_of(0, 0, 0)),
        (2, updates_of(2, 2, 1)),
        (1, updates_of(1, 1, 1)),
    ):
        roll_back(operator, campaign_id, number)
        assert now() == expected, number
        operator.post(f"/v1/campaigns/{campaign_id}/resume")
        job = agents[0].lease("train")["assignment"]
        assert (job["round"], job["broadcast"], job["committed_update"]) == (
            number + 1,
            broadcasts[number],
            expected["ada"],
        )
    roll_back(operator, campaign_id, 0)
    assert now() == updates_of(0, 0, 0)


@pytest.mark.usefixtures("coordinator")
def test_a_refused_rollback_states_the_reason(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada = enroll("ada")
    one = {"selection": {"minimum": 1}}
    assert refused(operator, "none", 0)[1] == "not-found"
    campaign_id: str = operator.post("/v1/campaigns", campaign_body(rounds=2, **one))["id"]
    for _ in ("preparing", "paused while preparing"):
        assert refused(operator, campaign_id, 0)[:2] == (409, "illegal-move")
        operator.campaign(campaign_id, "pause")
    assert "paused while preparing" in refused(operator, campaign_id, 0)[2]
    operator.campaign(campaign_id, "resume")
    ada.prepare()
    operator.wait_for(campaign_id, "initializing")
    assert refused(operator, campaign_id, 0)[:2] == (409, "illegal-move")
    ada.init(adapter_bytes(tmp_path))
    do_rounds(tmp_path, [ada], [1])
    wait_until_closed(operator, campaign_id, 1)
    assert refused(operator, campaign_id, 2) == (422, "invalid", "round: 2 is above 1, the last closed round")
    assert refused(operator, campaign_id, 10**12)[0] == 422
    assert refused(operator, campaign_id, -1)[:2] == (422, "invalid")
    roll_back(operator, campaign_id, 1)
    expected = (422, "invalid", "round: there is nothing to undo after round 1")
    assert refused(operator, campaign_id, 1) == expected
    operator.campaign(campaign_id, "resume")
    do_rounds(tmp_path, [ada], [2])
    operator.wait_for(campaign_id, "completed")
    assert refused(operator, campaign_id, 2)[2] == "round: there is nothing to undo after round 2"
    assert operator.campaign(campaign_id, "pause").status_code == 409
    roll_back(operator, campaign_id, 0)
    operator.campaign(campaign_id, "cancel")
    assert refused(operator, campaign_id, 0)[:2] == (409, "illegal-move")


@pytest.mark.parametrize(
    ("algorithm", "retention", "missing", "possible"),
    [
        ("fedavg", {"adapters": 2}, "the adapter of round 2 is no longer stored (retention.adapters)", "0, 4-5"),
        (
            "scaffold",
            {"server_state": 3},
            "the server state of round 2 is no longer stored (retention.server_state)",
            "0, 3-5",
        ),
    ],
)
def test_a_refused_rollback_names_what_is_no_longer_stored(
    coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Enroll,
    tmp_path: Path,
    algorithm: str,
    retention: dict[str, int],
    missing: str,
    possible: str,
) -> None:
    agents = [enroll("ada"), enroll("bob")]
    body = {"rounds": 5, "algorithm": {"name": algorithm}, "retention": retention}
    campaign_id = begin_campaign(operator, tmp_path, agents, **body)
    do_rounds(tmp_path, agents, (1, 2, 3, 4, 5), algorithm=algorithm)
    operator.wait_for(campaign_id, "completed")
    sentence = f"{missing}; rounds that the campaign can be rolled back to: {possible}"
    # blobs are collected right after the last round has closed
    operator.wait_until(lambda: refused(operator, campaign_id, 2), lambda found: found == (409, "not-kept", sentence))
    assert operator.get(f"/v1/campaigns/{campaign_id}")["state"] == "completed"
    if algorithm == "scaffold":  # as earlier versions left it, which stored only the last broadcast
        coordinator.run(forget(coordinator.services, campaign_id, BlobKind.BROADCAST, 3))
        assert refused(operator, campaign_id, 3)[2].startswith("the broadcast of round 3 is no longer stored")
    assert roll_back(operator, campaign_id, 4)["rounds_closed"] == 4


async def forget(services: Services, campaign_id: str, kind: BlobKind, number: int) -> None:
    async with services.database.write("test") as session:
        of_it = (BlobUseRow.campaign_id == campaign_id, BlobUseRow.kind == kind, BlobUseRow.round == number)
        await session.execute(update(BlobUseRow).where(*of_it).values(stored=False))


@pytest.mark.usefixtures("coordinator")
def test_the_best_adapter_is_one_that_is_still_stored(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada = enroll("ada")
    body = campaign_body(
        rounds=4, evaluation={"every": 1}, selection={"minimum": 1}, retention={"adapters": 2}, name="best"
    )
    campaign_id: str = operator.post("/v1/campaigns", body)["id"]
    ada.prepare(n_held_out=5)
    ada.init(adapter_bytes(tmp_path))
    for number, loss in enumerate((9.0, 2.0, 3.0, 4.0, 1.0)):
        ada.evaluate(loss)
        if number < 4:
            do_rounds(tmp_path, [ada], [number + 1])
    assert operator.wait_for(campaign_id, "completed")["best_adapter"] == 4
    rows = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    found = roll_back(operator, campaign_id, 3)
    stored = {row["number"]: row["metrics"]["held_out_loss"] for row in rows[:4] if row["stored"]}
    assert found["best_adapter"] == min(stored, key=stored.__getitem__)


@pytest.mark.parametrize("wakes", ["before the round is done again", "after", "with an error"])
def test_an_aggregation_of_an_undone_round_writes_nothing(
    either_coordinator: RunningCoordinator,
    operator: Operator,
    enroll: Enroll,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wakes: str,
) -> None:
    """The aggregation sleeps while the operator rolls back and resumes at once."""
    asleep, wake = threading.Event(), threading.Event()
    woken = threading.Event()

    async def sleepy(services: Services, campaign_id: str) -> AggregatedRound:
        closed = await aggregate_round(services, campaign_id)
        if not asleep.is_set():
            asleep.set()
            await asyncio.to_thread(wake.wait, 60)
            either_coordinator.loop.call_later(0.3, woken.set)
            if wakes == "with an error":
                raise NotFound("blob", "of a round that was rolled back")
        return closed

    aggregate_round = loop.aggregate_round
    monkeypatch.setattr(loop, "aggregate_round", sleepy)
    agents = [enroll("ada"), enroll("bob")]
    campaign_id = begin_campaign(operator, tmp_path, agents, rounds=2, algorithm={"name": "fedavgm"})
    do_rounds(tmp_path, agents, [1], astray=True)
    assert asleep.wait(30)
    roll_back(operator, campaign_id, 0)
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    if wakes == "after":
        do_rounds(tmp_path, agents, [1, 2])
        operator.wait_for(campaign_id, "completed")
    wake.set()
    assert woken.wait(30)
    if wakes != "after":
        do_rounds(tmp_path, agents, [1, 2])
    campaign = operator.wait_for(campaign_id, "completed")
    assert campaign["reason"] is None
    closed = events(operator, campaign_id, "round-closed")
    assert [event["round"] for event in closed] == [1, 2]
    rows = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    shares = [share["update_sha256"] for share in rows[1]["contributions"]]
    assert shares == [sha256_hex(delta_of(tmp_path, agent, 1)) for agent in agents]
    assert adapters(operator, campaign_id)[1:] == [event["adapter_sha256"] for event in closed]
    for digest in adapters(operator, campaign_id):
        assert operator.http.get(f"/v1/blobs/{digest}").status_code == 200
