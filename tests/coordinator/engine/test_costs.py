"""The database cost of a round does not grow with earlier rounds or with agents that the campaign does not select."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from coordinator.database.ids import new_id
from coordinator.database.tables import AgentRow
from coordinator.engine.loop import Engine
from coordinator.engine.sweeper import Sweeper
from coordinator.presence import write_last_seen
from coordinator.settings import EngineSettings, Settings
from coordinator.storage.orphans import sweep_orphans
from shared.states import AgentState
from tests.coordinator.engine.looking import look
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
from tests.support.server import RunningCoordinator, running_coordinator
from tests.support.suite.costs import Cost, Meter


class Played:
    """A campaign with one agent, whose engine ticks only on request, so that all rounds are alike."""

    evaluation: Mapping[str, Any] = {"every": 1}

    def __init__(self, running: RunningCoordinator, folder: Path) -> None:
        self._running = running
        self._engine, self._sweeper = Engine(running.services), Sweeper(running.services)
        self.folder = folder
        self._delta = adapter_bytes(folder, 1.0)
        self.operator = Operator(running.url, running.key)
        self.agent = self.enroll("ada", site="north")
        body = campaign_body(
            rounds=1000,
            selection={"minimum": 1, "labels": {"site": "north"}},
            evaluation=self.evaluation,
            stragglers={"late_updates": "next_round"},
            retention={"server_state": 1},
        )
        self.campaign_id = self.operator.post("/v1/campaigns", body)["id"]
        self.look()
        self.agent.prepare(n_held_out=5, offers=dict.fromkeys(self.evaluation.get("tasks", ()), "public"))
        self.look()
        self.agent.init(adapter_bytes(folder))
        self.look()

    def enroll(self, name: str, **labels: str) -> ScriptedAgent:
        return ScriptedAgent(self._running.url, self.operator.token(labels=labels), name)

    def look(self) -> int:
        """Have the engine process all due campaigns. Returns their number."""
        return len(self._running.run(look(self._engine)))

    def round(self) -> None:
        """Evaluate the newest adapter, train, close the round, open the next one, sweep, and note who was seen."""
        self.agent.evaluate(1.0)
        assert self.look() == 1
        self.agent.train(self._delta)
        assert self.look() == 1
        self._running.run(self._sweeper.sweep())
        self._running.run(write_last_seen(self._running.services))  # as the coordinator does now and then

    def rounds_until(self, number: int) -> None:
        while self.operator.get(f"/v1/campaigns/{self.campaign_id}")["rounds_closed"] < number:
            self.round()

    def search_for_orphans(self) -> int:
        return self._running.run(sweep_orphans(self._running.services.storage))

    def add_idle_agents(self, count: int) -> None:
        """Agents at other sites, enrolled long ago."""

        async def add() -> None:
            now = self._running.clock.now()
            async with self._running.services.database.write("test") as session:
                await session.execute(
                    insert(AgentRow),
                    [
                        {
                            "id": (made := new_id(now)),
                            "name": f"idle-{made}",
                            "labels": {"site": "south"},
                            "state": AgentState.ACTIVE,
                            "secret_hash": made,
                            "version": "test",
                            "created_at": now,
                            "last_seen_at": now,
                        }
                        for _ in range(count)
                    ],
                )

        self._running.run(add())


class Deciding(Played):
    """One that runs a benchmark on each adapter, and looks whether to stop by it."""

    evaluation = {"every": 0, "tasks": ["fpb"], "tasks_every": 1, "best": "fpb.acc", "stop": {"patience": 1000}}  # noqa: RUF012

    def round(self) -> None:
        self.agent.benchmark({"fpb": 0.5})
        assert self.look() == 1
        self.agent.train(self._delta)
        assert self.look() == 1


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    return Meter(monkeypatch)


@contextmanager
def playing(kind: type[Played], data_dir: Path, folder: Path) -> Iterator[Played]:
    settings = Settings(data_dir=data_dir, engine=EngineSettings(poll_s=600, sweep_s=600))
    with running_coordinator(settings, with_engine=False) as running:
        made = kind(running, folder)
        yield made
        made.agent.http.close()


@pytest.fixture
def played(meter: Meter, data_dir: Path, tmp_path: Path) -> Iterator[Played]:
    with playing(Played, data_dir, tmp_path) as made:
        yield made


def check_equal(before: Cost, after: Cost) -> None:
    assert after.statements == before.statements
    assert after.rows == before.rows
    more = {sql: (before.steps[sql], steps) for sql, steps in after.steps.items() if steps > before.steps[sql] + 20}
    assert not more, "reads rows that are not in the result:\n" + "\n".join(map(str, more.items()))


@pytest.mark.parametrize("late", [40, pytest.param(300, marks=pytest.mark.soak)])
def test_a_round_costs_the_same_however_many_were_before_it(played: Played, meter: Meter, late: int) -> None:
    costs = []
    for number in (3, late):
        played.rounds_until(number - 1)
        with meter.measured() as cost:
            played.round()
        costs.append(cost)
    check_equal(*costs)
    assert sum(costs[0].statements.values()) <= 155


def test_a_decision_costs_the_same_however_many_adapters_were_before_it(
    meter: Meter, data_dir: Path, tmp_path: Path
) -> None:
    costs = []
    with playing(Deciding, data_dir, tmp_path) as deciding:
        for number in (3, 12):
            deciding.rounds_until(number - 1)
            with meter.measured() as cost:
                deciding.round()
            costs.append(cost)
    check_equal(*costs)


def test_agents_that_a_campaign_does_not_want_cost_it_nothing(played: Played, meter: Meter) -> None:
    played.rounds_until(2)
    costs = []
    for count in (10, 990):
        played.add_idle_agents(count)
        with meter.measured() as cost:
            played.round()
        costs.append(cost)
    check_equal(*costs)
    played.enroll("far", site="south").http.close()
    assert played.look() == 0, "a campaign was processed because of an agent that it does not select"
    played.enroll("near", site="north").http.close()
    assert played.look() == 1
    assert played.operator.events(played.campaign_id)[-1] == "agent-invited"


def test_a_page_of_adapters_and_an_agents_view_cost_the_same_however_many_there_are(
    played: Played, meter: Meter
) -> None:
    costs = []
    for number in (3, 9):
        played.rounds_until(number)
        with meter.measured() as cost:
            items = played.operator.items(f"/v1/campaigns/{played.campaign_id}/adapters")
            [own] = played.agent.http.get("/v1/agents/me/campaigns").json()["campaigns"]
        assert [each["number"] for each in items] == list(range(number + 1))
        assert (own["update_round"], own["update_weight"]) == (number, 1)
        assert not any("contributions" in sql for sql in cost.statements if "participants" in sql)
        costs.append(cost)
    assert costs[0].statements.total() == costs[1].statements.total()


def test_a_search_for_orphans_lists_no_blobs_of_the_database(played: Played, meter: Meter) -> None:
    costs = []
    for number in (2, 9):
        played.rounds_until(number)  # every adapter stays
        with meter.measured() as cost:
            assert played.search_for_orphans() == 0
        costs.append(cost)
    assert costs[1].statements == costs[0].statements
    assert costs[1].rows == costs[0].rows


def test_a_tick_is_one_transaction(played: Played, meter: Meter) -> None:
    played.agent.evaluate(1.0)
    with meter.measured() as waiting:
        assert played.look() == 1
    assert waiting.transactions == 1
    assert not any("claim_token=" in statement for statement in waiting.statements), (
        "a claim was taken outside the transaction"
    )
    lease = played.agent.lease("train")
    with meter.measured() as idle:
        assert played.look() == 0
    assert idle.transactions == 0
    played.agent.train(adapter_bytes(played.folder, 1.0), lease)
    with meter.measured() as closing:
        assert played.look() == 1
    # the tick that claims, one for the adapter's bytes, the closing, and the release of the updates
    assert closing.transactions == 4
