"""The metrics of one campaign: those of its kind of training, and those of its benchmarks."""

import difflib
from collections.abc import Collection, Mapping

from shared import benchmarks, kinds, metrics
from shared.campaign.evaluation import EvaluationSection
from shared.metrics import Metric, Origin, Weight
from shared.plugins import PluginUnavailable


def benchmark_metrics(evaluation: EvaluationSection) -> dict[str, Metric]:
    """What the benchmarks of a campaign measure, with the means over those of its suite, by name."""
    known = benchmarks.benchmarks()
    of_tasks = {metric.name: metric for name in evaluation.benchmarks for metric in known[name].metrics}
    return of_tasks | {mean.metric.name: mean.metric for mean in evaluation.means}


def metrics_of(evaluation: EvaluationSection, kind: str) -> dict[str, Metric]:
    """All metrics of a campaign, by name. Without the plug-in of the kind, those that every kind has.

    Args:
        evaluation: the campaign's section.
        kind: its kind of training.
    """
    try:
        of_kind: Mapping[str, Metric] = kinds.find(kind).metrics
    except PluginUnavailable:
        of_kind = metrics.by_name((*metrics.losses("", Weight.ROWS), *metrics.COMMON))
    return {**of_kind, **benchmark_metrics(evaluation)}


def undecidable(evaluation: EvaluationSection, kind: str) -> str | None:
    """Why the campaign's best adapter or its end cannot be decided as the file asks; None if they can.

    Args:
        evaluation: the campaign's section.
        kind: its kind of training, which may be unknown: then nothing is said.
    """
    stop = evaluation.stop
    asked = {"evaluation.best": evaluation.best}
    if stop is not None:
        of_stop = "evaluation.stop" if stop.metric is None else "evaluation.stop.metric"
        asked[of_stop] = stop.metric or evaluation.best
    try:
        kinds.find(kind)
    except PluginUnavailable:
        return None
    known = {
        name: metric
        for name, metric in metrics_of(evaluation, kind).items()
        if metric.better is not None and metric.origin in (Origin.EVALUATION, Origin.BENCHMARK)
    }
    for field, name in asked.items():
        if name not in known:
            return f"{field}: {name} is not measured on adapters here; {_what_is(known, name)}"
        decides = name != metrics.HELD_OUT_LOSS or field != "evaluation.best"
        if known[name].origin is Origin.EVALUATION and evaluation.every == 0 and decides:
            return f"{field}: {name} is measured on held-out rows, and evaluation.every is 0"
    decides_stop = evaluation.stop_metric
    if stop is not None and decides_stop is not None and stop.min_delta >= 1 and known[decides_stop].is_share:
        return f"evaluation.stop.min_delta: {decides_stop} is a share from 0 to 1; write one percentage point as 0.01"
    return None


def _what_is(known: Collection[str], name: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"what is: {', '.join(known)}"
