"""From outcomes to numbers."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from fedloom.evaluation.statistics.averages import Average, average_of
from fedloom.evaluation.statistics.intervals import bootstrap, wilson
from fedloom.evaluation.statistics.numbers import Number, not_run, numbers_of
from fedloom.evaluation.tasks.base import Outcome, TaskMetric
from fedloom.evaluation.tasks.label_metrics import f1_macro
from tests.unit.evaluation.scored import ACC, LABELS, LENGTHS, MACRO, Scored, labelled, right_or_wrong


def number(outcomes: list[Outcome], metric: TaskMetric = ACC, seed: int = 0) -> Number:
    (found,) = numbers_of(Scored(metric), outcomes, 1000, seed)
    return found


def test_the_mean_of_right_and_wrong_has_wilsons_interval() -> None:
    found = number(right_or_wrong([1, 1, 0, 1]))
    assert (found.value, found.n, found.n_asked, found.n_published) == (0.75, 4, 4, 1000)
    assert found.confidence == wilson(3, 4)
    assert found.stderr == pytest.approx(math.sqrt(0.75 * 0.25 / 4))


def test_other_means_have_a_bootstrap_interval() -> None:
    values = np.random.default_rng(0).random(200)
    found = number(right_or_wrong(values.tolist()))
    assert found.value == pytest.approx(values.mean())
    assert found.confidence is not None
    assert found.confidence.method == "bootstrap"
    assert found.stderr == pytest.approx(values.std() / math.sqrt(200), rel=0.05)


def test_several_samples_of_an_item_are_one_cluster() -> None:
    """Ten samples that agree are one observation: an interval over 400 would be √10 too narrow."""
    values = np.random.default_rng(0).integers(0, 2, size=40)
    once, ten_times = right_or_wrong(values.tolist()), right_or_wrong(values.tolist()) * 10
    single, clustered = number(once), number(ten_times)
    assert (clustered.value, clustered.n, clustered.n_asked) == (single.value, 40, 40)
    assert single.stderr is not None
    assert clustered.stderr == pytest.approx(single.stderr, rel=0.05)


def test_items_with_different_numbers_of_samples_are_weighted_by_them() -> None:
    samples = [("a", 1.0), ("a", 0.0), ("a", 0.0), ("b", 1.0), ("c", 0.0), ("c", 1.0)]
    found = number([Outcome(item, "", {"acc": value}) for item, value in samples])
    assert (found.value, found.n) == (0.5, 3)
    assert found.confidence is not None


def test_an_item_with_a_problem_is_counted_apart_and_is_no_zero() -> None:
    bad = [Outcome("long", "", problem="needs 4096 positions"), Outcome("lost", "", problem="the harness failed")]
    found = number([*right_or_wrong([1, 1, 0, 1]), *bad])
    assert (found.value, found.n, found.n_asked, found.n_problems) == (0.75, 4, 6, 2)
    assert found.problems == {"needs 4096 positions": 1, "the harness failed": 1}


def test_items_that_do_not_fit_are_one_reason_however_long_they_are() -> None:
    needs = [Outcome(str(n), "", problem=f"needs {n} positions, and the model has 256") for n in (300, 412, 301)]
    found = number([*needs, Outcome("lost", "", problem="no label"), *right_or_wrong([1, 0])])
    assert found.problems == {"needs 300 to 412 positions, and the model has 256": 3, "no label": 1}
    assert number(needs).not_run == "needs 300 to 412 positions, and the model has 256"


def test_values_that_are_missing_or_not_finite_are_problems_too() -> None:
    found = number([*right_or_wrong([1, 0]), Outcome("none", ""), Outcome("nan", "", {"acc": math.nan})])
    assert (found.value, found.n) == (0.5, 2)
    assert found.problems == {"no value of acc": 1, "acc is not finite": 1}


def test_without_an_item_that_counts_a_metric_was_not_run() -> None:
    found = number([Outcome(str(place), "", problem="needs 4096 positions") for place in range(3)])
    assert (found.value, found.confidence, found.n, found.n_asked) == (None, None, 0, 3)
    assert found.not_run == "needs 4096 positions"
    assert number([]).not_run == "no item was asked"


def test_a_task_that_was_not_run_says_why_for_each_metric() -> None:
    found = not_run(Scored(ACC, MACRO), "not run: put fpb/x.txt there")
    assert [(each.metric.name, each.value) for each in found] == [("acc", None), ("f1_macro", None)]
    assert {each.not_run for each in found} == {"not run: put fpb/x.txt there"}


def test_flags_are_counted_over_the_items_that_count() -> None:
    outcomes = [
        replace(outcome, flags=frozenset({"unparsed", *(["empty"] if outcome.item == "0" else [])}))
        for outcome in right_or_wrong([0, 0, 1])
    ]
    found = number([*outcomes, Outcome("x", "", problem="timed out", flags=frozenset({"cut"}))])
    assert found.flags == {"empty": 1, "unparsed": 3}
    assert (found.share("unparsed"), found.share("empty"), found.share("timed out")) == (1.0, 1 / 3, 0.0)


def test_trap_both_totals_are_given_by_size_and_by_group() -> None:
    outcomes = right_or_wrong([1, 1, 1, 1, 1, 1, 0, 1], ["big"] * 6 + ["small"] * 2)
    found = number(outcomes)
    assert found.value == 7 / 8
    assert found.groups is not None
    assert {name: (each.value, each.n) for name, each in found.groups.groups.items()} == {
        "big": (1.0, 6),
        "small": (0.5, 2),
    }
    assert found.groups.mean == 0.75
    assert found.groups.groups["small"].confidence == wilson(1, 2)


def test_one_group_gives_no_table_of_groups() -> None:
    assert number(right_or_wrong([1, 0], ["only", "only"])).groups is None


def test_the_interval_of_the_mean_of_groups_covers_95_percent() -> None:
    generator = np.random.default_rng(1)
    sizes, shares = [3, 5, 20, 100] * 5, [0.9, 0.5, 0.7, 0.3, 0.6] * 4
    groups = [str(place) for place, size in enumerate(sizes) for _ in range(size)]
    covered = []
    for _ in range(400):
        values = [float(generator.random() < share) for share, n in zip(shares, sizes, strict=True) for _ in range(n)]
        found = number(right_or_wrong(values, groups)).groups
        assert found is not None
        assert found.confidence is not None
        covered.append(found.confidence.low <= np.mean(shares) <= found.confidence.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_f1_has_an_interval_and_is_the_same_by_seed() -> None:
    generator = np.random.default_rng(0)
    outcomes = labelled([(str(generator.choice(LABELS)), str(generator.choice(LABELS))) for _ in range(300)])
    first, again, other = (number(outcomes, MACRO, seed) for seed in (0, 0, 1))
    assert first == again
    assert first.confidence is not None
    assert other.confidence is not None
    assert first.confidence != other.confidence
    assert first.confidence.low < 1 / 3 < first.confidence.high


def test_the_interval_of_f1_covers_95_percent() -> None:
    generator = np.random.default_rng(0)
    cells = np.array([[0.10, 0.03, 0.02, 0], [0.05, 0.45, 0.05, 0], [0.02, 0.08, 0.20, 0]]).ravel()
    covered = []
    for seed in range(400):
        rows = np.eye(12)[generator.choice(12, p=cells, size=150)]
        found, _ = bootstrap(rows, lambda counts: f1_macro(counts, 3), seed, n_resamples=1000)
        assert found is not None
        covered.append(found.low <= float(f1_macro(cells, 3)) <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_a_metric_of_the_corpus_is_computed_anew_on_each_resample() -> None:
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 30, size=80)
    outcomes = [Outcome(str(n), "", texts=("x" * int(size), "y" * 10)) for n, size in enumerate(sizes)]
    found = number(outcomes, LENGTHS)
    assert found.value == pytest.approx(sizes.mean() / 10)
    assert found.stderr == pytest.approx(sizes.std() / 10 / math.sqrt(80), rel=0.1)
    assert found.confidence is not None


def test_an_interval_is_of_what_the_task_computes_and_not_of_a_namesake() -> None:
    """A task whose ``f1_macro`` is another function than the fast one: the interval is around its own value."""

    class Halved(Scored):
        def compute(self, metric: TaskMetric, outcomes: Sequence[Outcome]) -> float:
            return super().compute(metric, outcomes) / 2

    generator = np.random.default_rng(0)
    outcomes = labelled([(str(generator.choice(LABELS)), str(generator.choice(LABELS))) for _ in range(100)])
    (found,) = numbers_of(Halved(MACRO), outcomes, 100)
    whole = number(outcomes, MACRO)
    assert found.value is not None
    assert found.value == pytest.approx(whole.value / 2 if whole.value else None)
    assert found.confidence is not None
    assert found.confidence.low < found.value < found.confidence.high
    assert found.stderr == pytest.approx(whole.stderr / 2 if whole.stderr else None, rel=0.15)


def finance(**values: float | None) -> dict[str, Number]:
    outcomes = right_or_wrong([1, 0, 1, 1])
    table = {}
    for task, value in values.items():
        found = number(outcomes)
        table[task] = replace(found, task=task, value=value)
    return table


def test_a_mean_over_tasks_is_there_only_if_all_of_them_ran() -> None:
    sets = ("fpb", "fiqa", "tfns", "nwgi")
    of_3, of_4 = (Average(f"mean_{n}", f"mean of {n}", ACC, sets[:n]) for n in (3, 4))
    titles = {"nwgi": "NWGI", "tfns": "TFNS"}
    three = finance(fpb=0.5, fiqa=0.75, tfns=1.0)
    found = average_of(of_3, three, titles)
    assert found.value == 0.75
    assert found.confidence is not None
    width = found.confidence.high - found.confidence.low
    each = wilson(3, 4)
    assert width == pytest.approx((each.high - each.low) / math.sqrt(3))
    assert average_of(of_4, three, titles).not_run == "needs NWGI"
    assert average_of(of_4, three, titles).value is None
    partly = finance(fpb=0.5, fiqa=0.75, tfns=None, nwgi=None)
    assert average_of(of_4, partly, titles).not_run == "needs TFNS, NWGI"
    assert average_of(of_4, finance(fpb=0.4, fiqa=0.6, tfns=0.5, nwgi=0.7), titles).value == pytest.approx(0.55)
