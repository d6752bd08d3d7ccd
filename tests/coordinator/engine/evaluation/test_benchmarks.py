"""Benchmarks of global adapters: who runs which, again elsewhere if one fails, and what is recorded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.digest import sha256_hex
from tests.support.driven import DrivenCampaign
from tests.support.messages import benchmarked
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent

Enroll = Callable[..., ScriptedAgent]

pytestmark = pytest.mark.usefixtures("coordinator")


def begun(
    operator: Operator,
    folder: Path,
    offers: dict[ScriptedAgent, dict[str, str]],
    selection: Any = None,
    **evaluation: Any,
) -> DrivenCampaign:
    """A campaign that runs benchmarks, at the time when its adapter 0 is made. offers: of each agent."""
    changes = {"rounds": 2, "evaluation": {"every": 0, "tasks_every": 1, **evaluation}, "selection": selection or {}}
    campaign = DrivenCampaign(operator, folder, **changes)
    for agent, offer in offers.items():
        agent.prepare(offers=offer)
    campaign.init(next(iter(offers)))
    return campaign


def adapter(campaign: DrivenCampaign, number: int) -> Any:
    """An adapter, once its evaluations have ended."""
    path = f"{campaign.path}/adapters/{number}"
    return campaign.operator.wait_until(lambda: campaign.operator.get(path), lambda found: not found["evaluating"])


def test_each_benchmark_runs_at_one_agent_and_of_adapters_in_turn(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    offer = {"fpb": "public", "gsm8k": "public"}
    campaign = begun(operator, tmp_path, {ada: offer, bob: offer}, tasks=["fpb", "gsm8k"])
    asked = []
    for number in range(3):
        leases = [agent.benchmark({"fpb": 0.5, "gsm8k": 0.25}) for agent in (ada, bob)]
        asked.append([lease["assignment"]["benchmarks"] for lease in leases])
        assert {lease["assignment"]["round"] for lease in leases} == {number}
        if number < 2:
            campaign.train(ada)
            campaign.train(bob)
    campaign.wait_for("completed")
    assert asked == [[["fpb"], ["gsm8k"]], [["gsm8k"], ["fpb"]], [["fpb"], ["gsm8k"]]]
    found = adapter(campaign, 0)
    assert (found["metrics"]["fpb.acc"], found["metrics"]["gsm8k.strict"]) == (0.5, 0.25)
    assert found["benchmarks"][1] == {
        "name": "gsm8k",
        "agent_name": "bob",
        "n": 98,
        "n_asked": 100,
        "n_published": 500,
        "items_sha256": sha256_hex(b"public"),
        "not_run": "",
    }
    rows = operator.items(f"{campaign.path}/metrics", name="fpb.acc")
    assert [(row["round"], row["value"], row["client_number"]) for row in rows] == [(n, 0.5, None) for n in range(3)]


def test_what_one_agent_cannot_do_another_does(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob, cyd = enroll("ada"), enroll("bob"), enroll("cyd")
    offer = {"fpb": "public"}
    campaign = begun(operator, tmp_path, {ada: offer, bob: offer, cyd: offer}, tasks=["fpb"])
    lease = ada.lease("benchmark")
    assert ada.failure(lease, kind="crash", message="it died").status_code == 200
    campaign.train(bob)  # which came before
    bob.benchmark({"fpb": "the sandbox failed"})
    campaign.train(cyd)
    cyd.benchmark({"fpb": 0.75})
    assert adapter(campaign, 0)["benchmarks"][0]["agent_name"] == "cyd"
    campaign.train(ada)
    for agent in (bob, cyd, ada):  # the first of each adapter is another one
        if agent is not bob:
            campaign.train(agent)
        failed = agent.failure(agent.lease("benchmark"), kind="benchmark", message=f"{agent.name} fails")
        assert failed.status_code == 200
    found = adapter(campaign, 1)
    assert (found["metrics"], found["benchmarks"][0]["not_run"]) == ({}, "ada fails")
    told = campaign.events("adapter-evaluated")[-1]
    assert told["not_run"] == {"fpb": "ada fails"}


def test_no_agent_is_asked_that_does_not_offer(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign = begun(operator, tmp_path, {ada: {}, bob: {"fpb": "public"}}, tasks=["fpb", "gsm8k"])
    bob.benchmark({"fpb": 0.5})
    found = {each["name"]: each for each in adapter(campaign, 0)["benchmarks"]}
    assert found["gsm8k"]["not_run"].startswith("no agent of the campaign runs it: its owner names it in policy.suites")
    assert campaign.part("bob")["benchmarks"] == ["fpb"]
    assert campaign.part("ada")["benchmarks"] == []
    assert bob.offer(campaign.id).status_code == 204  # its owner thought better of it
    campaign.train(ada)
    campaign.train(bob)
    campaign.wait_until_closed(1)
    assert "no agent" in adapter(campaign, 1)["benchmarks"][0]["not_run"]


def test_adapters_are_asked_the_same_items(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob, cyd = enroll("ada"), enroll("bob"), enroll("cyd")
    offers = {ada: {"fpb": "a slice"}, bob: {"fpb": "public"}, cyd: {"fpb": "public"}}
    campaign = begun(operator, tmp_path, offers, tasks=["fpb"])
    bob.benchmark({"fpb": 0.5})  # as most have them
    for agent in (bob, cyd):
        agent.offer(campaign.id)
    for agent in (ada, bob, cyd):
        campaign.train(agent)
    campaign.wait_until_closed(1)
    assert adapter(campaign, 1)["benchmarks"][0]["not_run"] == "no agent has the items that earlier adapters were asked"


def test_wrong_scores_are_refused(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign = begun(operator, tmp_path, {ada: {"gsm8k": "public"}, bob: {}}, tasks=["gsm8k"])
    lease = ada.lease("benchmark")
    good = {
        "name": "gsm8k",
        "items_sha256": sha256_hex(b"public"),
        "n": 10,
        "n_asked": 10,
        "values": {"gsm8k.strict": 0.1, "gsm8k.flexible": 0.2},
    }
    for wrong, problem in (
        ({"items_sha256": sha256_hex(b"others")}, "it is of other items than those of the campaign"),
        ({"values": {"gsm8k.strict": 0.1}}, "its metrics are gsm8k.strict, and those of the benchmark are"),
        ({"values": {"gsm8k.strict": 0.1, "gsm8k.flexible": 1.5}}, "1.5 is above 1"),
        ({"values": {}}, "it has values and a reason why there are none, or neither"),
        ({"not_run": "yet it was"}, "it has values and a reason why there are none, or neither"),
        ({"n": 11}, "11 of 10 items count"),
        ({"n": 0}, "0 of 10 items count"),
        ({"name": "fpb"}, "they are of fpb, and gsm8k were asked for"),
        ({"values": {"held_out_loss": 0.0}}, "its metrics are held_out_loss"),
        ({"values": {"gsm8k.strict": float("nan")}}, ""),
    ):
        reply = ada.result(lease, {"kind": "benchmark", "scores": [good | wrong]}) if problem else None
        if reply is not None:
            assert reply.status_code == 422, wrong
            assert reply.json()["errors"][0]["message"].startswith(problem), wrong
    twice = ada.result(lease, {"kind": "benchmark", "scores": [good, good]})
    assert twice.status_code == 422
    assert ada.result(lease, {"kind": "benchmark", "scores": [good]}).status_code == 200
    assert adapter(campaign, 0)["metrics"]["gsm8k.flexible"] == 0.2


def test_offers_are_of_the_campaigns_benchmarks_and_of_its_agents(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob, eve = enroll("ada", site="here"), enroll("bob", site="here"), enroll("eve", site="elsewhere")
    here = {"minimum": 2, "labels": {"site": "here"}}
    campaign = begun(operator, tmp_path, {ada: {"fpb": "public"}, bob: {}}, tasks=["fpb"], selection=here)
    refused = ada.offer(campaign.id, gsm8k="public")
    assert refused.json()["errors"][0]["message"] == "the campaign does not name gsm8k"
    assert ada.offer("no-such-campaign", fpb="public").status_code == 404
    assert eve.offer(campaign.id, fpb="public").status_code == 404  # it takes no part
    campaign.move("cancel")
    assert ada.offer(campaign.id, fpb="public").status_code == 409


def test_a_suite_has_its_means(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    offer = dict.fromkeys(("fpb", "fiqa", "tfns"), "public")
    campaign = begun(operator, tmp_path, {ada: offer, bob: {}}, suite="finance", tasks_every=2)
    ada.benchmark({"fpb": 0.25, "fiqa": 0.5, "tfns": 1.0})
    found = adapter(campaign, 0)
    assert found["metrics"]["finance.mean_of_3_acc"] == pytest.approx(1.75 / 3)
    assert "finance.mean_of_4_acc" not in found["metrics"]  # nwgi did not run
    campaign.train(ada)
    campaign.train(bob)
    campaign.wait_until_open(2)
    assert operator.get(f"{campaign.path}/adapters/1")["benchmarks"] == []  # not due


def test_an_agent_that_pauses_keeps_no_benchmark_waiting(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob, cyd = enroll("ada"), enroll("bob"), enroll("cyd")
    offer = {"fpb": "public"}
    campaign = begun(operator, tmp_path, {ada: offer, bob: offer, cyd: {}}, tasks=["fpb"])
    ada.lease("benchmark")
    assert ada.http.put(f"/v1/agents/me/campaigns/{campaign.id}", json={"part": "paused"}).status_code == 204
    campaign.train(bob)
    bob.benchmark({"fpb": 0.5})
    assert adapter(campaign, 0)["benchmarks"][0]["agent_name"] == "bob"


def test_a_first_number_settles_the_items_and_no_offer_does(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign = begun(operator, tmp_path, {ada: {"fpb": "a slice"}, bob: {"fpb": "public"}}, tasks=["fpb"])
    ada.benchmark({"fpb": "the sandbox failed"})
    campaign.train(bob)
    bob.benchmark({"fpb": 0.5})  # other items, but no number was of the first ones
    found = adapter(campaign, 0)["benchmarks"][0]
    assert (found["agent_name"], found["items_sha256"]) == ("bob", sha256_hex(b"public"))
    campaign.train(ada)
    campaign.wait_until_closed(1)
    bob.benchmark({"fpb": 0.75})
    assert adapter(campaign, 1)["metrics"]["fpb.acc"] == 0.75


def test_a_number_of_items_that_were_not_offered_settles_nothing(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign = begun(operator, tmp_path, {ada: {"fpb": "public"}, bob: {}}, tasks=["fpb"])
    lease = ada.lease("benchmark")
    refused = ada.result(lease, benchmarked(["fpb"], {"fpb": 1.0}, "others"))
    assert refused.status_code == 422
    assert "it is of other items" in refused.json()["errors"][0]["message"]
    assert ada.result(lease, benchmarked(["fpb"], {"fpb": 0.5}, "public")).status_code == 200
    assert adapter(campaign, 0)["metrics"]["fpb.acc"] == 0.5


def test_a_campaign_that_is_ended_early_measures_its_last_adapter_as_such(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    evaluation = {"every": 1, "tasks": ["fpb"], "tasks_every": 9}
    campaign = DrivenCampaign(operator, tmp_path, rounds=20, evaluation=evaluation)
    ada.prepare(n_held_out=5, offers={"fpb": "public"})
    bob.prepare()
    campaign.init(ada)
    ada.evaluate(2.0)
    ada.benchmark({"fpb": 0.25})
    campaign.train(ada)
    campaign.train(bob)
    ada.evaluate(1.0)
    assert adapter(campaign, 1)["benchmarks"] == []
    campaign.move("finish")
    ada.benchmark({"fpb": 0.5})
    campaign.wait_for("completed")
    metrics = adapter(campaign, 1)["metrics"]
    assert (metrics["fpb.acc"], metrics["held_out_loss"]) == (0.5, 1.0)
    rows = operator.items(f"{campaign.path}/metrics", name="held_out_loss")
    assert [row["round"] for row in rows if row["client_number"] is None] == [0, 1]  # each once
