"""A coordinator and agents that may die, and the scenarios that they play."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from coordinator.settings import Settings, StorageSettings
from shared.credentials import AGENT_PREFIX, hash_secret, new_secret
from tests.support import audit
from tests.support.deaths import Deaths, PatientOperator
from tests.support.processes import QuickAgent, QuickCoordinator, ended, wait_until
from tests.support.scripted import campaign_body

_ROWS = {"ada": 10, "bob": 30, "cyd": 60}
_COLUMNS = 550_000
"""Columns of a tensor that makes updates of 4.4 MB: three chunks of an upload, two of a blob."""


def campaign(name: str, rounds: int, algorithm: str = "scaffold", **changes: Any) -> dict[str, Any]:
    """A campaign file; by default with server state, broadcast, extras and client state."""
    training = {"steps": 2, "batch_size": 2, "learning_rate": 0.1, "seed": 7}
    return campaign_body(name=name, rounds=rounds, training=training, algorithm={"name": algorithm}, **changes)


def around(*names: str) -> tuple[str, ...]:
    """The crash points before and after the commits of the named transactions."""
    return tuple(f"{name}: {when}" for name in names for when in ("before commit", "committed"))


@dataclass
class World:
    """A coordinator, its operator, agents by name, and the process that dies.

    points: crash points, empty if no process dies. victim: the agent that dies, None for the coordinator. watched: the
    environment that records every point reached.
    """

    folder: Path
    coordinator: QuickCoordinator
    settings: Settings
    points: Sequence[str]
    victim: str | None
    watched: dict[str, str]
    agents: dict[str, QuickAgent] = field(default_factory=dict)
    died_at: list[str] = field(default_factory=list)
    deaths: Deaths | None = None

    def __post_init__(self) -> None:
        self.operator = PatientOperator(self.coordinator.url, self.coordinator.operator.key)

    def start_agents(self, *names: str, **recorded: Any) -> None:
        for name in names:
            agent = QuickAgent.recorded_one(self.coordinator, self.folder, name, _ROWS[name], **recorded)
            agent.environment.update(self.watched)
            agent.start()
            self.agents[name] = agent

    @contextmanager
    def dying(self, *points: str) -> Iterator[None]:
        """Have the victim die at these of its points, by default at all, in the block. All of them must be reached."""
        if not self.points:
            yield
            return
        mortal = self.agents[self.victim] if self.victim else self.coordinator
        self.deaths = Deaths(mortal, points or self.points, self.folder)
        self.deaths.begin()
        try:
            yield
            self.died_at += self.deaths.finish()
        finally:
            self.deaths.stop()

    def wait(self, read: Callable[[], Any], what: str) -> Any:
        """Wait until *read* returns a true value, and return it. Fails at once if a death went wrong."""

        def seldom() -> Any:
            found = read()
            if not found:
                time.sleep(_ASK_S)  # constant polling would slow the other processes down
            return found

        return wait_until(seldom, what, _PATIENCE_S, lambda: self.deaths.trouble() if self.deaths else None)

    def show(self, campaign_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.operator.get(f"/v1/campaigns/{campaign_id}")
        return found

    def wait_for(self, campaign_id: str, state: str, reason: str = "") -> dict[str, Any]:
        def is_there() -> dict[str, Any] | None:
            found = self.show(campaign_id)
            return found if found["state"] == state and reason in (found["reason"] or "") else None

        found: dict[str, Any] = self.wait(is_there, f"{state} {reason}")
        return found

    def wait_until_closed(self, campaign_id: str, number: int) -> None:
        self.wait(lambda: self.show(campaign_id)["rounds_closed"] >= number, f"the end of round {number}")

    def move(self, campaign_id: str, move: str, body: Any = None) -> None:
        """Pause, resume, cancel or roll back. A call that is repeated because its reply was lost may be refused as no
        longer possible."""
        reply = self.operator.http.post(f"/v1/campaigns/{campaign_id}/{move}", json=body)
        assert reply.is_success or (self.points and reply.status_code in (409, 422)), reply.text

    def say(self, campaign_id: str, name: str, part: str) -> None:
        """Pass on what an agent's owner says of its part in a campaign."""
        secret = json.loads((self.agents[name].home / "identity.json").read_text())["secret"]
        path, headers = f"/v1/agents/me/campaigns/{campaign_id}", {"Authorization": f"Bearer {secret}"}
        reply = self.operator.http.put(path, json={"part": part}, headers=headers)
        assert reply.status_code == 204, reply.text

    def tell_gain(self, campaign_id: str, name: str, number: int) -> None:
        """Tell what an agent's owner gains by an adapter."""
        secret = json.loads((self.agents[name].home / "identity.json").read_text())["secret"]
        sha256 = self.operator.get(f"/v1/campaigns/{campaign_id}/adapters/{number}")["blob"]["sha256"]
        path, headers = f"/v1/agents/me/campaigns/{campaign_id}/gains/{sha256}", {"Authorization": f"Bearer {secret}"}
        body = {"base": 3.0, "alone": 2.0, "adapter": 1.0}
        reply = self.operator.http.put(path, json=body, headers=headers)
        assert reply.status_code == 204, reply.text

    def state_of(self, campaign_id: str, name: str) -> str:
        """The state of an agent's part in a campaign."""
        [found] = [each["state"] for each in self.show(campaign_id)["participants"] if each["agent_name"] == name]
        return str(found)

    def audited(self, campaign_id: str, contributors: Sequence[Sequence[str]]) -> str:
        """Check that updates counted once and rounds have their contributors. Returns the last adapter's digest."""
        audit.check_counted(self.settings, campaign_id)
        assert audit.contributors(self.settings, campaign_id) == [list(names) for names in contributors]
        number = self.show(campaign_id)["final_adapter"]
        return str(self.operator.get(f"/v1/campaigns/{campaign_id}/adapters/{number}")["blob"]["sha256"])


Scenario = Callable[[World], str]


@contextmanager
def world(
    folder: Path,
    scenario: Scenario,
    points: Sequence[str] = (),
    *,
    victim: str | None = None,
    watched: Path | None = None,
    database_url: str | None = None,
    updates: str = "files",
) -> Iterator[World]:
    """A world for a scenario. watched: file that lists every point reached. updates: where they are stored."""
    data_dir = folder / "coordinator" / "data"
    settings = Settings(data_dir=data_dir, database_url=database_url, storage=StorageSettings(updates=updates))
    watching = {"FEDLOOM_CRASH_AT": "*", "FEDLOOM_CRASH_NOTES": str(watched)} if watched else {}
    environment = {"FEDLOOM_STORAGE__UPDATES": updates, **_QUICK, **_HASTE.get(scenario, {}), **watching}
    coordinator = QuickCoordinator(folder / "coordinator", database_url, **environment)
    made = World(folder, coordinator, settings, points, victim, watching)
    try:
        yield made
    finally:
        with ended(coordinator, *made.agents.values()):
            pass


def rounds(world: World, step_s: float = 0.0) -> str:
    """Small updates; old adapters and states are released."""
    keep = {"adapters": 2, "server_state": 1}
    world.start_agents("ada", "bob", step_s=step_s)
    with world.dying():
        campaign_id = world.operator.create(campaign("small", 4, evaluation={"every": 3}, retention=keep))
        world.wait_for(campaign_id, "completed")
    return world.audited(campaign_id, [("ada", "bob")] * 4)


def rounded(world: World) -> str:
    """Updates and extras in int8: what rounding took from an update goes with the next one."""
    world.start_agents("ada", "bob")
    with world.dying():
        campaign_id = world.operator.create(campaign("small", 4, wire="int8"))
        world.wait_for(campaign_id, "completed")
    return world.audited(campaign_id, [("ada", "bob")] * 4)


def early_stop(world: World) -> str:
    """A campaign that ends by its own rule, and whose best adapter is not its last."""
    world.start_agents("ada", "bob", losses=[3.0, 2.0, 1.0, 1.5, 1.25, 0.5])
    with world.dying():
        body = campaign("early", 20, evaluation={"every": 1, "stop": {"patience": 2}}, retention={"adapters": 1})
        campaign_id = world.operator.create(body)
        ended = world.wait_for(campaign_id, "completed", "stopped after round 4 of 20")
    assert (ended["rounds_closed"], ended["best_adapter"], ended["final_adapter"]) == (4, 2, 4)
    assert world.operator.events(campaign_id).count("campaign-ends-early") == 1
    assert world.operator.get(f"/v1/campaigns/{campaign_id}/adapters/best")["stored"]
    return world.audited(campaign_id, [("ada", "bob")] * 4)


def slow_rounds(world: World) -> str:
    """Trainings long enough for agents to report progress."""
    return rounds(world, step_s=0.7)


def one_round(world: World) -> str:
    """A single round: no later one cleans up after it."""
    world.start_agents("ada", "bob")
    with world.dying():
        campaign_id = world.operator.create(campaign("one", 1))
        world.wait_for(campaign_id, "completed")
    return world.audited(campaign_id, [("ada", "bob")])


def large_rounds(world: World, algorithm: str = "fedavg") -> str:
    """Updates of several chunks."""
    body = campaign("large", 3, algorithm, evaluation={"every": 2}, retention={"adapters": 1})
    world.start_agents("ada", "bob", size=_COLUMNS, step_s=0.1)
    with world.dying():
        campaign_id = world.operator.create(body)
        world.wait_for(campaign_id, "completed")
    return world.audited(campaign_id, [("ada", "bob")] * 3)


def large_rounds_with_state(world: World) -> str:
    return large_rounds(world, "scaffold")


def claims(world: World) -> str:
    """An engine that renews its claim from the start of an aggregation, because the claim's lifetime is very short."""
    world.start_agents("ada", "bob")
    with world.dying():
        campaign_id = world.operator.create(campaign("small", 2))
        world.wait_for(campaign_id, "completed")
    return world.audited(campaign_id, [("ada", "bob")] * 2)


def operators_calls(world: World) -> str:
    """Pause, resume, roll back, cancel. Each call is repeated until it is answered."""
    operator = world.operator
    world.start_agents("ada", "bob")
    with world.dying(*around("create_campaign", "pause_campaign", "resume_campaign")):
        campaign_id = operator.create(campaign("small", 4))
        world.wait_until_closed(campaign_id, 1)
        world.move(campaign_id, "pause")
        world.wait_for(campaign_id, "paused")
        world.move(campaign_id, "resume")
        world.wait_for(campaign_id, "completed")
    for number, points in (
        (3, ["release blobs: before commit"]),
        (2, ["release blobs: committed"]),
        (1, around("roll back")),
    ):
        with world.dying(*points):
            world.move(campaign_id, "rollback", {"round": number})
        assert world.wait_for(campaign_id, "paused")["rounds_closed"] == number
    world.move(campaign_id, "resume")
    world.wait_for(campaign_id, "completed")
    other_id = operator.create(campaign("other", 1000))
    world.wait_until_closed(other_id, 1)
    with world.dying(*around("cancel_campaign")):
        world.move(other_id, "cancel")
    closed = world.wait_for(other_id, "cancelled")["rounds_closed"]
    third_id = operator.create(campaign("third", 1000))
    world.wait_until_closed(third_id, 1)
    with world.dying(*around("finish_campaign")):
        world.move(third_id, "finish")
    last = world.wait_for(third_id, "completed")
    assert operator.events(third_id).count("campaign-ends-early") == 1
    world.audited(third_id, [("ada", "bob")] * last["rounds_closed"])
    assert len(operator.items("/v1/campaigns")) == 3
    events = operator.events(campaign_id)
    assert [events.count(event) for event in ("campaign-created", "campaign-rolled-back")] == [1, 3]
    world.audited(other_id, [("ada", "bob")] * closed)
    return world.audited(campaign_id, [("ada", "bob")] * 4)


def owners_words(world: World) -> str:
    """An owner pauses her part, takes it up, leaves, comes back. Her first word is repeated until it is answered."""
    world.start_agents("ada", "bob", step_s=0.1)
    campaign_id = world.operator.create(campaign("small", 4))
    world.wait_until_closed(campaign_id, 1)
    world.move(campaign_id, "pause")
    world.wait_for(campaign_id, "paused")
    with world.dying():
        world.say(campaign_id, "ada", "paused")
        world.tell_gain(campaign_id, "ada", 1)
    assert len(world.operator.items(f"/v1/campaigns/{campaign_id}/gains")) == 1
    assert world.state_of(campaign_id, "ada") == "paused"
    for word, state in (("takes-part", "prepared"), ("left", "left"), ("takes-part", "preparing")):
        world.say(campaign_id, "ada", word)
        assert world.state_of(campaign_id, "ada") == state
    world.move(campaign_id, "resume")
    world.wait_for(campaign_id, "completed")
    events = world.operator.events(campaign_id)
    assert [events.count(event) for event in ("agent-waits", "agent-left", "agent-back")] == [1, 1, 2]
    return world.audited(campaign_id, [("ada", "bob")] * 4)


def mishaps(world: World) -> str:
    """A lease that expires, one that is released, a bad update, an engine that fails, a corrupted update."""
    operator = world.operator
    world.start_agents("ada")
    world.start_agents("cyd", nan_in=[[2, 2]])
    world.start_agents("bob", step_s=0.3)
    bob = world.agents["bob"]

    def times_in_training() -> int:
        return bob.process.printed().count("  training 1/2")

    campaign_id = operator.create(campaign("small", 3))
    world.wait(times_in_training, "bob in training")
    bob.process.kill()
    with world.dying():
        world.wait(lambda: "lease-expired" in operator.events(campaign_id), "the end of bob's lease")
        while "task-released" not in operator.events(campaign_id):  # a lost release is not repeated
            times = times_in_training()
            bob.start()
            world.wait(lambda: times_in_training() > times, "bob in training")  # noqa: B023
            bob.process.stop()
        bob.start()
        world.wait_until_closed(campaign_id, 2)
        [update] = world.wait(lambda: audit.stored_files(world.settings, campaign_id, 3, "ada"), "ada's update")
        good = update.read_bytes()
        update.unlink()
        update.mkdir()  # the engine does not expect a folder
        world.wait_for(campaign_id, "running", "the engine failed")
        update.rmdir()
        update.write_bytes(good[:-1])
        for move in ("pause", "resume"):  # otherwise the engine would wait before it retries
            world.move(campaign_id, move)
        world.wait_for(campaign_id, "paused", "cannot be aggregated")
        update.write_bytes(good)
        world.move(campaign_id, "resume")
        world.wait_for(campaign_id, "completed")
    return world.audited(campaign_id, [("ada", "bob", "cyd"), ("ada", "bob"), ("ada", "bob", "cyd")])


def identities(world: World) -> str:
    """Enrolment, secrets, revocation. A lost reply locks no agent out, because the agent chooses its secret itself."""
    operator = world.operator
    first, second = new_secret(AGENT_PREFIX), new_secret(AGENT_PREFIX)

    def rotate(secret: str) -> httpx.Response:
        body, headers = {"secret_hash": hash_secret(second)}, {"Authorization": f"Bearer {secret}"}
        return operator.http.post("/v1/agents/me/secret", json=body, headers=headers)

    with world.dying():
        body = {"token": operator.token(), "name": "ada", "version": "test", "secret_hash": hash_secret(first)}
        assert operator.http.post("/v1/enrollments", json=body).is_success
        rotated = rotate(first)
        assert rotated.is_success or rotated.status_code == 401
        assert rotate(second).is_success
        token = operator.items("/v1/tokens")[0]["id"]
        assert operator.http.delete(f"/v1/tokens/{token}").status_code in (204, 404)
        assert token not in [each["id"] for each in operator.items("/v1/tokens")]
        assert operator.post("/v1/agents/ada/revoke")["state"] == "revoked"
        assert {agent["state"] for agent in operator.items("/v1/agents")} == {"revoked"}
    return "no adapter"


def verifications(world: World) -> str:
    """A verification of all rounds; one that fails, is cancelled, and is deleted."""
    operator = world.operator
    world.start_agents("ada", "bob")
    campaign_id = operator.create(campaign("small", 4, retention={"updates": 4}))
    world.wait_for(campaign_id, "completed")
    path = f"/v1/campaigns/{campaign_id}/verifications"
    working = ("start_verification", "claim verification", "renew verification", "record verification")
    with world.dying(*around(*working)):
        whole = f"{path}/{operator.post(path)['id']}"
        world.wait(lambda: operator.get(whole)["state"] == "done", "the end of the verification")
        assert [each["outcome"] for each in operator.get(whole)["outcomes"]] == ["verified"] * 5
        assert len(operator.items(path)) == 1
    good = _swap_contributions(world, campaign_id, "[{}]")  # the engine does not expect an empty one
    with world.dying(*around("release verification")):
        stuck = f"{path}/{operator.post(path, {'rounds': [4]})['id']}"
        world.wait(lambda: operator.get(stuck)["reason"], "an error of the engine")
    world.coordinator.environment["FEDLOOM_STORAGE__KEEP_VERIFICATIONS_S"] = "0"
    with world.dying(*around("cancel_verification", "delete verification")):
        cancelled = operator.http.post(f"{stuck}/cancel")
        assert cancelled.is_success or (world.points and cancelled.status_code in (404, 409)), cancelled.text
    if not world.points:
        world.coordinator.process.stop()
        world.coordinator.start()  # old verifications are deleted at the start
    world.wait(lambda: not operator.items(path), "the end of old verifications")
    _swap_contributions(world, campaign_id, good)
    return world.audited(campaign_id, [("ada", "bob")] * 4)


def _swap_contributions(world: World, campaign_id: str, contributions: str) -> str:
    """Overwrite the contributions of round 4 in the database. Returns those that it had."""
    with closing(sqlite3.connect(world.settings.data_dir / "fedloom.db", timeout=30)) as database, database:
        where = "where campaign_id = ? and number = 4"
        [(before,)] = database.execute(f"select contributions from adapters {where}", (campaign_id,))
        database.execute(f"update adapters set contributions = ? {where}", (contributions, campaign_id))
    return str(before)


_ASK_S = 0.1
_PATIENCE_S = 600.0
"""Seconds, enough for a dozen deaths and starts on a busy machine."""
_QUICK = {"FEDLOOM_ENGINE__POLL_S": "0.1"}
_HASTE: dict[Scenario, dict[str, str]] = {
    claims: {"FEDLOOM_ENGINE__CLAIM_TTL_S": "0.003"},
    verifications: {"FEDLOOM_ENGINE__CLAIM_TTL_S": "0.003"},
    mishaps: {"FEDLOOM_LEASE__TTL_S": "3"},
}
