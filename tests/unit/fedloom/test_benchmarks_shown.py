"""Benchmarks in words and in few numbers, for campaigns of few and of many."""

from typing import Any

import pytest

from fedloom.adapters.benchmarks_shown import asked_in_words, reasons_grouped, stop_standing
from fedloom.cli.simulation.round_lines import round_line
from fedloom.cli.simulation.simulate import how_it_ended
from fedloom.measured import (
    Measured,
    best_in_words,
    courses,
    few_benchmark_metrics,
    main_benchmark_metrics,
    units,
    values_of_round,
)
from shared.campaign.measured import metrics_of
from shared.wire.benchmarks import BenchmarkView
from shared.wire.campaigns import CampaignDetail, StopView
from tests.unit.fedloom.test_adapter_folder import campaign


def detail(**evaluation: Any) -> CampaignDetail:
    plain = campaign(evaluation=evaluation)
    return plain.model_copy(update={"metrics": list(metrics_of(plain.spec.evaluation, "sft").values())})


def named(metrics: Any) -> list[str]:
    return [metric.name for metric in metrics]


def test_the_main_metrics_are_the_first_of_each_the_means_over_them_and_those_that_decide() -> None:
    finance = detail(suite="finance", tasks=["gsm8k"], best="fpb.f1_macro", stop={"metric": "gsm8k.flexible"})
    assert named(main_benchmark_metrics(finance)) == [
        "fpb.acc", "fpb.f1_macro", "fiqa.acc", "tfns.acc", "nwgi.acc", "gsm8k.strict", "gsm8k.flexible",
        "finance.mean_of_3_acc", "finance.mean_of_4_acc",
    ]  # fmt: skip
    assert named(few_benchmark_metrics(finance)) == [
        "fpb.f1_macro", "gsm8k.flexible", "finance.mean_of_3_acc", "finance.mean_of_4_acc",
    ]  # fmt: skip
    assert named(few_benchmark_metrics(detail(suite="general"))) == [
        "mmlu.acc", "bbh.exact_match", "drop.em", "crass.acc",
    ]  # fmt: skip
    assert main_benchmark_metrics(detail()) == []


def test_of_twenty_benchmarks_a_line_has_four_numbers() -> None:
    paper = detail(suite="paper", best="mbpp.pass@1")
    values = {metric.name: {0: 0.25, 2: 0.5} for metric in metrics_of(paper.spec.evaluation, "sft").values()}
    shown = [str(each) for each in values_of_round(paper, values, 2) if each.metric.origin == "benchmark"]
    means = ["paper.finance_mean_of_3_acc 50.0%", "paper.finance_mean_of_4_acc 50.0%"]
    assert shown == ["mmlu.acc 50.0%", "mbpp.pass@1 50.0%", *means]


def test_the_course_of_a_benchmark_names_the_adapter_if_newer_ones_have_none() -> None:
    fpb = detail(tasks=["fpb"], tasks_every=2)
    means = {"held_out_loss": {0: 2.0, 3: 1.5}, "fpb.acc": {0: 0.5, 2: 0.61}}
    coverage = {"held_out_loss": {3: (1, 2)}}
    assert courses(fpb, means, coverage) == [
        "held-out loss 2.0000 → 1.5000 nats a token",
        "each a mean of 1 of 2 clients",
        "fpb.acc 50.0% → 61.0% (adapter 2)",
    ]


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        ({}, "lowest held-out loss"),
        ({"tasks": ["fpb"], "best": "fpb.acc"}, "highest fpb.acc"),
        ({"tasks": ["fpb"], "best": "fpb.unparsed"}, "lowest fpb.unparsed"),
    ],
)
def test_what_makes_an_adapter_the_best(evaluation: dict[str, Any], words: str) -> None:
    assert best_in_words(detail(**evaluation)) == words


def test_units_name_benchmarks_as_the_file_does() -> None:
    fpb = detail(tasks=["fpb"])
    known = {metric.name: metric for metric in fpb.metrics}
    assert units([known["held_out_loss"], known["fpb.acc"]]) == "held-out loss in nats a token, fpb.acc in %"
    assert str(Measured(metric=known["fpb.acc"], value=0.5)) == "fpb.acc 50.0%"


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        ({}, ""),
        ({"suite": "math"}, "suite math: gsm8k, after every round"),
        ({"tasks": ["fpb"], "every": 2}, "fpb, after every 2 rounds"),
        (
            {"suite": "math", "tasks": ["fpb"], "limit": 9, "tasks_every": 3},
            "gsm8k, fpb, at most 9 items of each (seed 0), after every 3 rounds",
        ),
    ],
)
def test_which_benchmarks_are_asked(evaluation: dict[str, Any], words: str) -> None:
    assert asked_in_words(detail(**evaluation).spec.evaluation) == words


def test_of_many_benchmarks_some_are_named() -> None:
    words = asked_in_words(detail(suite="paper").spec.evaluation)
    assert words.startswith("suite paper: mmlu, bbh, drop, ")
    assert "and 12 more, after" in words


def test_how_the_stop_stands_is_what_the_coordinator_says() -> None:
    stops = detail(tasks=["fpb"], best="fpb.acc", stop={"patience": 3, "min_delta": 0.01})
    rule = "stops after 3 evaluations in a row without fpb.acc improving by more than 0.01"
    assert stop_standing(stops) == f"{rule}; no adapter has it yet"
    stands = StopView(metric="fpb.acc", best_adapter=4, best_value=0.612, waited=2)
    assert stop_standing(stops.model_copy(update={"stop": stands})) == f"{rule}; 2 so far, since adapter 4 (61.2%)"
    assert stop_standing(detail()) == ""


def test_equal_reasons_are_told_once() -> None:
    views = [BenchmarkView(name=name, not_run=why) for name, why in (("fpb", "x"), ("mmlu", ""), ("tfns", "x"))]
    assert reasons_grouped(views) == {"x": ["fpb", "tfns"]}


def test_a_line_of_a_simulation_has_the_metric_that_decides_or_says_that_it_is_missing() -> None:
    fpb = detail(tasks=["fpb"], tasks_every=2, best="fpb.acc")
    means = {"train_loss_mean": {1: 1.5, 2: 1.25}, "held_out_loss": {1: 2.0, 2: 1.5}, "fpb.acc": {2: 0.61}}
    rows = "held-out loss 2.0000 nats a token"
    assert round_line(fpb, means, 1) == f"round 1/3: train loss 1.5000 nats a token, {rows}"
    assert round_line(fpb, means, 2).endswith("held-out loss 1.5000 nats a token, fpb.acc 61.0%")
    without = {**means, "fpb.acc": {}}
    assert round_line(fpb, without, 2).endswith("nats a token, no benchmark gave a number")


def test_a_simulation_says_why_it_stopped_and_which_adapter_is_the_best() -> None:
    stopped = detail(tasks=["fpb"], best="fpb.acc", stop={"patience": 2}).model_copy(
        update={"reason": "stopped after round 2 of 3", "best_adapter": 1, "final_adapter": 2}
    )
    best = "adapter 1 is the best (highest fpb.acc), and adapter 2 the final one"
    assert [*how_it_ended(stopped)] == ["stopped after round 2 of 3", best]
    assert [*how_it_ended(detail().model_copy(update={"best_adapter": 1, "final_adapter": 2}))] == []
