"""F1 against scikit-learn, with all labels in the mean."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from fedloom.evaluation.tasks.label_metrics import LABEL_METRICS, label_metric, one_hot
from tests.unit.evaluation.scored import LABELS

AVERAGES = {"f1_macro": "macro", "f1_micro": "micro", "f1_weighted": "weighted"}


def pairs_of(seed: int, true: tuple[str, ...], predicted: tuple[str, ...], n: int = 200) -> list[tuple[str, str]]:
    generator = np.random.default_rng(seed)
    return [(str(generator.choice(true)), str(generator.choice(predicted))) for _ in range(n)]


CASES = {
    "all labels": pairs_of(0, LABELS, LABELS),
    "one label never predicted": pairs_of(1, LABELS, ("negative", "positive")),
    "one label neither true nor predicted": pairs_of(2, ("negative", "positive"), ("negative", "positive")),
    "predictions that are no label": pairs_of(3, LABELS, (*LABELS, "other")),
    "only neutral predicted": pairs_of(4, LABELS, ("neutral",)),
    "one item": [("neutral", "neutral")],
}


@pytest.mark.parametrize("name", LABEL_METRICS)
@pytest.mark.parametrize("case", CASES)
def test_f1_is_scikit_learns(name: str, case: str) -> None:
    true, predicted = zip(*CASES[case], strict=True)
    expected = f1_score(true, predicted, labels=LABELS, average=AVERAGES[name], zero_division=0)
    assert label_metric(name, CASES[case], LABELS) == pytest.approx(expected, abs=1e-12)


def test_trap_a_label_that_is_missing_does_not_leave_the_mean() -> None:
    """Without ``labels=``, the mean over the labels that occur is 1.0."""
    pairs = [("negative", "negative"), ("positive", "positive")]
    assert f1_score(*zip(*pairs, strict=True), average="macro") == 1.0
    assert label_metric("f1_macro", pairs, LABELS) == pytest.approx(2 / 3)


def test_trap_three_labels_are_not_binary() -> None:
    """The F1 of one label among three, which a binary F1 is, differs from each mean over labels."""
    pairs = [("positive", "positive"), ("neutral", "positive"), ("neutral", "neutral"), ("negative", "neutral")]
    assert label_metric("f1_macro", pairs, LABELS) == pytest.approx((0 + 1 / 2 + 2 / 3) / 3)
    assert label_metric("f1_weighted", pairs, LABELS) == pytest.approx((0 + 2 * 1 / 2 + 2 / 3) / 4)
    assert label_metric("f1_micro", pairs, LABELS) == pytest.approx(1 / 2)  # the accuracy


def test_many_resamples_at_once_are_each_alone() -> None:
    rows = one_hot(CASES["predictions that are no label"], LABELS)
    halves = np.stack([rows[:100].sum(axis=0), rows[100:].sum(axis=0)])
    for compute in LABEL_METRICS.values():
        alone = [float(compute(half, 3)) for half in halves]
        assert compute(halves, 3).tolist() == pytest.approx(alone)


def test_a_true_label_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'bullish' is not among the labels negative, neutral, positive"):
        one_hot([("bullish", "neutral")], LABELS)
