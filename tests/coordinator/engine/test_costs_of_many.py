"""What a round costs each of its agents, however many clients the campaign has, and rounds were before it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from coordinator.database.ids import new_id
from coordinator.database.tables import AgentRow, CampaignRow, ParticipantRow
from coordinator.engine.loop import Engine
from coordinator.settings import EngineSettings, Settings
from shared.states import AgentState, ParticipantState
from tests.coordinator.engine.looking import look
from tests.support.operator import Operator
from tests.support.scripted import FINGERPRINT, ScriptedAgent, adapter_bytes, campaign_body
from tests.support.server import RunningCoordinator, running_coordinator
from tests.support.suite.costs import Cost, Meter

PER_AGENT = 40
"""Statements of an agent's round: its lease, its upload and its result, each with who asks."""
PER_ROUND = 74
"""Statements of a round itself, whose number of agents does not matter."""


class Crowd:
    """A campaign whose rounds have the same *per_round* agents. The engine ticks only on request."""

    def __init__(self, running: RunningCoordinator, folder: Path, per_round: int) -> None:
        self._running, self._engine = running, Engine(running.services)
        operator = Operator(running.url, running.key)
        self.agents = [ScriptedAgent(running.url, operator.token(), f"a-{each:03}") for each in range(per_round)]
        self._delta = [adapter_bytes(folder, 1.0 + number) for number in range(per_round)]
        body = campaign_body(
            rounds=1000, selection={"minimum": per_round}, retention={"adapters": 1, "server_state": 1}
        )
        self.id = operator.post("/v1/campaigns", body)["id"]
        self.look()
        for agent in self.agents:
            agent.prepare()
        self.look()
        self.agents[0].init(adapter_bytes(folder))
        self.look()

    def look(self) -> int:
        """Have the engine process all due campaigns. Returns their number."""
        return len(self._running.run(look(self._engine)))

    def round(self) -> None:
        """All train. The engine has nothing to do before the last one has."""
        for agent, delta in zip(self.agents, self._delta, strict=True):
            assert self.look() == 0
            agent.train(delta)
        assert self.look() == 1

    def add_clients(self, count: int) -> None:
        """Add clients that are set aside: their number is what counts."""

        async def add() -> None:
            now = self._running.clock.now()
            async with self._running.services.database.write("test") as session:
                known = len((await session.scalars(select(ParticipantRow.agent_id))).all())
                ids = [new_id(now) for _ in range(count)]
                agent = {"labels": {}, "state": AgentState.ACTIVE, "version": "test", "created_at": now}
                await session.execute(
                    insert(AgentRow), [{**agent, "id": each, "name": f"s-{each}", "secret_hash": each} for each in ids]
                )
                part = {"campaign_id": self.id, "state": ParticipantState.PREPARED, "fingerprint": FINGERPRINT}
                part |= {"n_train": 10, "rank": 2, "joined_round": 1, "set_aside_until": 10_000, "offers": {}}
                part |= {"failures_in_a_row": 0, "weight_share": 0.0}
                rows = [
                    {**part, "agent_id": each, "agent_name": f"s-{each}", "client_number": known + place}
                    for place, each in enumerate(ids)
                ]
                await session.execute(insert(ParticipantRow), rows)

        self._running.run(add())

    def counted_clients(self) -> tuple[int, int]:
        """How many clients the campaign says that it has, and how many it has."""

        async def count() -> tuple[int, int]:
            async with self._running.services.database.read() as session:
                campaign = await session.get_one(CampaignRow, self.id)
                return campaign.n_clients, len((await session.scalars(select(ParticipantRow.agent_id))).all())

        return self._running.run(count())


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    return Meter(monkeypatch)


@pytest.fixture(params=[(4, 40), pytest.param((100, 900), marks=pytest.mark.deep)], ids=["4 of 44", "100 of 1000"])
def sizes(request: pytest.FixtureRequest) -> tuple[int, int]:
    """How many agents a round has, and how many further clients there are in the end."""
    found: tuple[int, int] = request.param
    return found


@pytest.fixture
def crowd(meter: Meter, sizes: tuple[int, int], data_dir: Path, tmp_path: Path) -> Iterator[Crowd]:
    settings = Settings(data_dir=data_dir, engine=EngineSettings(poll_s=600, sweep_s=600))
    with running_coordinator(settings, with_engine=False) as running:
        made = Crowd(running, tmp_path, sizes[0])
        yield made
        for agent in made.agents:
            agent.http.close()


def measured(crowd: Crowd, meter: Meter) -> Cost:
    with meter.measured() as cost:
        crowd.round()
    return cost


def without(counts: Counter[str], *parts: str) -> dict[str, int]:
    """The counts of the statements that have none of some texts in them."""
    return {sql: count for sql, count in counts.items() if not any(part in sql for part in parts)}


def test_an_agents_round_costs_the_same_however_many_clients_and_rounds_there_are(
    crowd: Crowd, meter: Meter, sizes: tuple[int, int]
) -> None:
    per_round, others = sizes
    assert crowd.counted_clients() == (per_round, per_round)
    for _ in range(2):
        crowd.round()
    costs = [measured(crowd, meter)]
    for _ in range(4):
        crowd.round()
    costs.append(measured(crowd, meter))
    crowd.add_clients(others)
    crowd.round()
    costs.append(measured(crowd, meter))
    few, late, many = costs
    assert late.statements == few.statements == many.statements
    assert late.rows == few.rows
    # those who open, draw and weigh a round read each client, and nobody else does
    of_clients = "participants.client_number IS NOT NULL"
    assert without(many.rows, of_clients) == without(few.rows, of_clients)
    reads = {sql: count for sql, count in many.statements.items() if of_clients in sql}
    assert sum(reads.values()) <= 3
    assert few.statements.total() <= PER_AGENT * per_round + PER_ROUND
