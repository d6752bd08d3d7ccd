"""A coordinator states the specification, each adapter, each roster and each new history, as it makes them true."""

from pathlib import Path
from typing import Any

import pytest

from coordinator.signing import reading
from shared.signing.statements import AdapterSigned, HistorySigned, RosterSigned, SpecificationSigned
from shared.wire.tasks.leases import FailureKind
from tests.coordinator.campaigns.test_rollback import Enroll, do_rounds, roll_back
from tests.coordinator.signing.chains import signed_of, told
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, campaign_body
from tests.support.server import RunningCoordinator


def kinds(statements: list[Any]) -> list[str]:
    return [each.kind for each in statements]


def test_a_campaign_is_stated_from_its_creation_to_its_last_adapter(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll("ada"), enroll("bob")]
    campaign_id = begin_campaign(operator, tmp_path, agents, rounds=2, algorithm={"name": "scaffold"})
    leases = do_rounds(tmp_path, agents, [1, 2], algorithm="scaffold")
    operator.wait_for(campaign_id, "completed")
    standing, statements = told(agents[0], campaign_id)
    assert kinds(statements) == ["specification", "adapter", *["roster", "adapter"] * 2]
    [first, initial, roster, adapter, *_] = statements
    assert isinstance(first, SpecificationSigned)
    assert first.spec_sha256 == leases[0]["assignment"]["spec_sha256"]
    assert isinstance(initial, AdapterSigned)
    assert initial.sha256 == leases[0]["assignment"]["adapter"]["sha256"]
    assert isinstance(roster, RosterSigned)
    assert roster.agents == ["ada", "bob"]
    assert isinstance(adapter, AdapterSigned)
    assert adapter.broadcast == leases[2]["assignment"]["broadcast"]["sha256"]
    adapters = [operator.get(f"/v1/campaigns/{campaign_id}/adapters/{number}") for number in range(3)]
    assert {each["number"]: each["blob"]["sha256"] for each in adapters} == {
        number: each.sha256 for number, each in standing.adapters.items()
    }


def test_all_agents_are_told_the_same(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = [enroll("ada"), enroll("bob")]
    campaign_id = begin_campaign(operator, tmp_path, agents)
    do_rounds(tmp_path, agents, [1])
    operator.wait_for(campaign_id, "completed")
    assert signed_of(agents[0], campaign_id) == signed_of(agents[1], campaign_id) == signed_of(agents[0], campaign_id)


def test_a_lease_brings_what_was_stated_since(
    operator: Operator, enroll: Enroll, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob], rounds=2)
    do_rounds(tmp_path, [ada, bob], [1])

    def brought(agent: ScriptedAgent, **statements: int) -> Any:
        return agent.ask(statements={campaign_id: statements["newest"]} if statements else None).json()["statements"]

    operator.wait_until(lambda: told(ada, campaign_id)[0].rosters.get(2), bool)
    whole = signed_of(ada, campaign_id)
    for newest in (0, 2, len(whole) - 1):
        assert brought(ada, newest=newest) == {"statements": whole[newest:], "has_more": False}
    assert brought(ada, newest=len(whole) + 5) == {"statements": [], "has_more": False}, "of a later history"
    assert brought(bob) is None, "it did not say what it has"
    with monkeypatch.context() as patch:
        patch.setattr(reading, "_LEASE_CHARS", len(whole[-1]["text"]))
        assert brought(bob, newest=2) is None, "too long for a lease"
    other = operator.post("/v1/campaigns", campaign_body(name="other"))["id"]
    refused = ada.ask(statements={f"{campaign_id}{number}": 0 for number in range(21)})
    assert (refused.status_code, problem(refused).kind) == (422, "invalid")
    assert ada.ask(statements={other: 0}).json()["statements"] is None, "the lease is of the first campaign"


def test_a_rollback_is_a_new_history(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = [enroll("ada"), enroll("bob")]
    campaign_id = begin_campaign(operator, tmp_path, agents, rounds=3, retention={"adapters": "all"})
    do_rounds(tmp_path, agents, [1, 2, 3])
    operator.wait_for(campaign_id, "completed")
    roll_back(operator, campaign_id, 1)
    _, statements = told(agents[0], campaign_id)
    last = statements[-1]
    assert isinstance(last, HistorySigned)
    assert (last.history, last.adapter) == (1, 1)
    operator.post(f"/v1/campaigns/{campaign_id}/resume")
    leases = do_rounds(tmp_path, agents, [2, 3], astray=True)
    operator.wait_for(campaign_id, "completed")
    standing, statements = told(agents[0], campaign_id)
    assert kinds(statements)[-5:] == ["history", *["roster", "adapter"] * 2]
    assert {lease["assignment"]["history"] for lease in leases} == {standing.history} == {1}
    roll_back(operator, campaign_id, 0)
    assert told(agents[1], campaign_id)[0].newest_adapter == 0


def test_a_client_in_the_place_of_another_is_stated(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = {name: enroll(name) for name in ("ada", "bob", "cyd")}
    selection = {"clients_per_round": 2, "minimum": 2}
    campaign_id = begin_campaign(operator, tmp_path, [*agents.values()], selection=selection)
    opened = operator.wait_until(lambda: told(agents["ada"], campaign_id)[0].rosters.get(1), bool)
    drawn = opened.agents
    [left_out] = agents.keys() - set(drawn)
    lost = agents[drawn[0]]
    lease = lost.lease("train")
    assert lost.failure(lease, kind=FailureKind.DATA, message="gone").status_code == 200
    agents[left_out].lease("train")
    standing, statements = told(agents["ada"], campaign_id)
    assert standing.rosters[1].agents == sorted(agents)
    assert kinds(statements)[-2:] == ["roster", "roster"]


def test_a_campaign_that_starts_from_another_states_that_adapter(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll("ada"), enroll("bob")]
    first = begin_campaign(operator, tmp_path, agents)
    do_rounds(tmp_path, agents, [1])
    operator.wait_for(first, "completed")
    second = operator.post("/v1/campaigns", campaign_body(name="next", start_from=f"{first}/final"))["id"]
    for agent in agents:
        agent.prepare()
    final = operator.get(f"/v1/campaigns/{first}/adapters/1")["blob"]["sha256"]
    lease = agents[0].lease("train")
    standing, _ = told(agents[0], second)
    assert standing.adapters[0].sha256 == final == lease["assignment"]["adapter"]["sha256"]
    assert standing.spec_sha256 == lease["assignment"]["spec_sha256"], "with the digest of the start"


def test_statements_are_for_those_who_were_invited(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob])
    other = operator.post("/v1/campaigns", campaign_body(name="other", selection={"labels": {"site": "south"}}))["id"]
    for of in (other, "no-such-campaign"):
        refused = ada.http.get(f"/v1/agents/me/campaigns/{of}/statements")
        assert (refused.status_code, problem(refused).kind) == (404, "not-found")
    for path in (f"/v1/agents/me/campaigns/{campaign_id}/statements", "/v1/signing-keys"):
        assert operator.http.get(path).status_code == 403


def test_long_chains_are_read_in_pages(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, monkeypatch: Any
) -> None:
    agents = [enroll("ada"), enroll("bob")]
    campaign_id = begin_campaign(operator, tmp_path, agents, rounds=3)
    do_rounds(tmp_path, agents, [1, 2, 3])
    operator.wait_for(campaign_id, "completed")
    whole = signed_of(agents[0], campaign_id)
    assert len(whole) == 8
    assert signed_of(agents[0], campaign_id, since=5) == whole[5:]
    for name, value in (("MAX_STATEMENTS", 3), ("REPLY_CHARS", 10)):
        with monkeypatch.context() as patch:
            patch.setattr(reading, name, value)
            assert signed_of(agents[0], campaign_id) == whole
    assert signed_of(agents[0], campaign_id, since=8) == []


def test_an_update_that_came_late_leaves_the_roster_as_it_was(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll(name) for name in ("ada", "bob", "cyd")]
    stragglers = {"late_updates": "next_round"}
    selection = {"clients_per_round": 2, "minimum": 2}
    campaign_id = begin_campaign(
        operator, tmp_path, agents, rounds=2, selection=selection, stragglers={**stragglers, "over_selection": 0.5}
    )
    slow = agents[2].lease("train")
    for agent in agents[:2]:
        agent.train(adapter_bytes(tmp_path, 1.0))
    for agent in agents[:2]:
        agent.lease("train")
    standing, _ = told(agents[2], campaign_id)
    assert "cyd" in standing.rosters[1].agents
    assert slow["assignment"]["round"] == 1
    assert standing.rosters[2].agents == ["ada", "bob"]
