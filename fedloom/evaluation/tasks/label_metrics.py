"""F1 over labels, from counts of true and predicted labels: for one set of items, or for many resamples at once.

As scikit-learn's ``f1_score(true, predicted, labels=labels, zero_division=0)``: a label that never occurs has an F1 of
0 and stays in the mean.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def one_hot(pairs: Sequence[tuple[str, str]], labels: Sequence[str]) -> Floats:
    """What each pair of true and predicted label adds to the counts.

    Args:
        pairs: true and predicted labels; a prediction that is no label counts as wrong and as no other label.
        labels: all K labels.

    Returns:
        An array of shape (n, K · (K + 1)), by true and then predicted label.

    Raises:
        ValueError: a true label is not among the labels.
    """
    places = {label: place for place, label in enumerate(labels)}
    if unknown := {true for true, _ in pairs} - set(places):
        raise ValueError(f"{min(unknown)!r} is not among the labels {', '.join(labels)}")
    n_labels = len(labels)
    cells = [places[true] * (n_labels + 1) + places.get(predicted, n_labels) for true, predicted in pairs]
    rows = np.zeros((len(pairs), n_labels * (n_labels + 1)))
    rows[np.arange(len(pairs)), cells] = 1.0
    return rows


def f1_macro(counts: Floats, n_labels: int) -> Floats:
    """The mean of the labels' F1. counts: of shape (..., K · (K + 1))."""
    right, predicted, true = _margins(counts, n_labels)
    return np.asarray(_f1(right, predicted, true).mean(axis=-1))


def f1_micro(counts: Floats, n_labels: int) -> Floats:
    """F1 of all labels together. It is the accuracy if every prediction is a label."""
    right, predicted, true = _margins(counts, n_labels)
    return _f1(right.sum(axis=-1), predicted.sum(axis=-1), true.sum(axis=-1))


def f1_weighted(counts: Floats, n_labels: int) -> Floats:
    """The mean of the labels' F1, weighted by how often each is true."""
    right, predicted, true = _margins(counts, n_labels)
    return _ratio((_f1(right, predicted, true) * true).sum(axis=-1), true.sum(axis=-1))


LABEL_METRICS: Mapping[str, Callable[[Floats, int], Floats]] = {
    "f1_macro": f1_macro,
    "f1_micro": f1_micro,
    "f1_weighted": f1_weighted,
}
"""By the name of the metric."""


def label_metric(name: str, pairs: Sequence[tuple[str, str]], labels: Sequence[str]) -> float:
    """One metric of some items, for ``Task.compute``. Raises KeyError and ValueError."""
    return float(LABEL_METRICS[name](one_hot(pairs, labels).sum(axis=0), len(labels)))


def _margins(counts: Floats, n_labels: int) -> tuple[Floats, Floats, Floats]:
    """How often each label is right, predicted, and true; each of shape (..., K)."""
    table = counts.reshape(*counts.shape[:-1], n_labels, n_labels + 1)
    right = np.diagonal(table[..., :n_labels], axis1=-2, axis2=-1)
    return right, table[..., :n_labels].sum(axis=-2), table.sum(axis=-1)


def _f1(right: Floats, predicted: Floats, true: Floats) -> Floats:
    return _ratio(2 * right, predicted + true)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(np.asarray(above, dtype=np.float64)), where=below > 0)
