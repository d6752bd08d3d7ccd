"""A running agent that is asked for benchmarks, with a child that answers without torch."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.wire.tasks.assignments import BenchmarkAssignment
from tests.agent.benchmarks.parts import HearingCoordinator, measured_spec, write_data
from tests.agent.parts import Home, benchmark_assignment, prepare_assignment
from tests.agent.scripted_coordinator import Ended
from tests.support.ledgers import ledger_text, sent
from tests.support.processes import RECORDED_CHILD, QuickAgent, ended, wait_until
from tests.support.published import finance
from tests.support.scripted import FINGERPRINT

SPEC = measured_spec()
RAN = ["fpb_likelihood", "tfns_likelihood"]


@pytest.fixture
def home(coordinator: HearingCoordinator, tmp_path: Path) -> Home:
    home = coordinator.enroll(tmp_path / "home")
    write_data(home)
    return home


def task(coordinator: HearingCoordinator, *names: str, **changes: Any) -> BenchmarkAssignment:
    facts = {"fingerprint": FINGERPRINT, "adapter": coordinator.adapter_ref, "benchmarks": names or RAN}
    return benchmark_assignment(SPEC, **{**facts, **changes})


def prepared(coordinator: HearingCoordinator) -> None:
    assert coordinator.do(prepare_assignment(SPEC)).result


def scores(done: Ended) -> dict[str, Any]:
    assert done.result is not None, done.failure
    return {each["name"]: each for each in done.result["scores"]}


def asked(home: Path) -> list[list[str]]:
    """What the child was asked, by order."""
    path = home / "cache" / "asked.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_offer_is_there_before_the_preparation_ends_and_each_benchmark_gets_a_score(
    coordinator: HearingCoordinator, home: Home
) -> None:
    with home.running():
        prepared(coordinator)
        assert coordinator.offered == [RAN]
        done = coordinator.do(task(coordinator))
        again = coordinator.do(task(coordinator))
        wait_until(lambda: not any(home.folder.joinpath("tasks").iterdir()), "the end of the folders", 20)
    found = scores(done)
    assert list(found) == RAN
    offers = {each["name"]: each for each in coordinator.offers[0]["benchmarks"]}
    for name, score in found.items():
        assert score["items_sha256"] == offers[name]["items_sha256"]
        assert (score["n"], score["n_asked"]) == (offers[name]["n_items"],) * 2
        assert 0 <= score["values"][f"{name}.acc"] <= 1
    assert again.result == done.result
    assert sum(map(len, asked(home.folder))) == 3 * (50 + 6)  # each label once
    assert sent(home.folder, "offer of benchmarks") == coordinator.offers
    phases = [each["phase"] for each in coordinator.progress if each]
    assert set(phases) <= {"importing libraries", "running benchmarks", "downloading", "tokenizing"}
    assert str(home.folder) not in ledger_text(home.folder)


def test_an_agent_that_was_killed_asks_only_what_it_had_no_reply_to(
    coordinator: HearingCoordinator, home: Home
) -> None:
    agent = QuickAgent(home.folder, RECORDED_CHILD, reply_s=0.5)
    waiting: list[Ended] = []
    with ended(agent):
        agent.start()
        prepared(coordinator)
        waiting.append(coordinator.hand_out(task(coordinator)))
        wait_until(lambda: len(asked(home.folder)) == 3, "the third order", 20)
        agent.process.kill()
        assert not waiting[0].is_over
        agent.recorded = {}
        agent.start()
        wait_until(lambda: waiting[0].is_over, "the end of the task", 60)
    assert list(scores(waiting[0])) == RAN
    orders = asked(home.folder)
    texts = [text for order in orders for text in order]
    assert len(texts) - len(set(texts)) == len(orders[2])  # the order that was under way, and no other
    assert len(set(texts)) == 3 * (50 + 6)
    assert coordinator.offered == [RAN]


def test_a_child_that_dies_costs_one_order(coordinator: HearingCoordinator, home: Home) -> None:
    agent = QuickAgent(home.folder, RECORDED_CHILD, dies_at=2)
    with ended(agent):
        agent.start()
        prepared(coordinator)
        done = coordinator.do(task(coordinator))
    assert list(scores(done)) == RAN
    assert (home.folder / "cache" / "died").exists()
    texts = [text for order in asked(home.folder) for text in order]
    assert len(texts) == len(set(texts)) == 3 * (50 + 6)


def test_what_was_withdrawn_while_it_ran_is_refused(coordinator: HearingCoordinator, home: Home) -> None:
    agent = QuickAgent(home.folder, RECORDED_CHILD, reply_s=0.4)
    with ended(agent):
        agent.start()
        prepared(coordinator)
        waiting = coordinator.hand_out(task(coordinator))
        wait_until(lambda: len(asked(home.folder)) == 1, "the first order", 20)
        home.write_settings('[policy]\nsuites = ["tfns_likelihood"]\n')
        wait_until(lambda: waiting.is_over, "the end of the task", 60)
    assert waiting.result is None
    assert waiting.failure is not None
    assert waiting.failure["kind"] == "refused-by-policy"
    assert "fpb_likelihood would be run, and policy.suites" in waiting.failure["message"]


def test_a_cancelled_task_is_left_at_once(coordinator: HearingCoordinator, home: Home) -> None:
    agent = QuickAgent(home.folder, RECORDED_CHILD, reply_s=120)
    with ended(agent):
        agent.start()
        prepared(coordinator)
        coordinator.hand_out(task(coordinator))
        wait_until(lambda: len(asked(home.folder)) == 1, "the first order", 20)
        assert agent.process.stop() == 0
        assert "the task was given back" in agent.process.printed()


def test_other_items_than_those_that_were_offered_give_no_number(coordinator: HearingCoordinator, home: Home) -> None:
    with home.running():
        prepared(coordinator)
        finance.fpb(home.folder / "evaluation-data", n=200, sentence="Another {} .@neutral")
        (home.folder / "evaluation-data" / "tfns" / "sent_valid.csv").unlink()
        found = scores(coordinator.do(task(coordinator)))
    assert found["fpb_likelihood"]["not_run"] == "its data at this agent has changed since it was offered"
    assert found["tfns_likelihood"]["not_run"].startswith(
        "put tfns/sent_valid.csv into the agent's folder of evaluation data"
    )
    assert [each["values"] for each in found.values()] == [{}, {}]
    assert asked(home.folder) == []


def test_a_task_fails_if_nothing_can_be_asked_for_one_reason(coordinator: HearingCoordinator, home: Home) -> None:
    with home.running():
        prepared(coordinator)
        (home.folder / "evaluation-data" / "tfns" / "sent_valid.csv").unlink()
        done = coordinator.do(task(coordinator, "tfns_likelihood"))
    assert done.failure is not None
    assert done.failure["kind"] == "benchmark"
    assert done.failure["message"].startswith(
        "no benchmark can run at this agent: put tfns/sent_valid.csv into the agent's folder of evaluation data"
    )


def test_the_other_benchmarks_have_numbers_if_one_cannot_run(coordinator: HearingCoordinator, home: Home) -> None:
    with home.running():
        prepared(coordinator)
        (home.folder / "evaluation-data" / "tfns" / "sent_valid.csv").unlink()
        found = scores(coordinator.do(task(coordinator)))
    assert found["fpb_likelihood"]["values"]
    assert found["tfns_likelihood"]["not_run"]


def test_another_base_model_than_the_prepared_one_is_refused(coordinator: HearingCoordinator, home: Home) -> None:
    other = dict.fromkeys(FINGERPRINT, "d" * 64)
    with home.running():
        prepared(coordinator)
        done = coordinator.do(task(coordinator, fingerprint=other))
    assert done.failure is not None
    assert done.failure["kind"] == "contract-mismatch"
