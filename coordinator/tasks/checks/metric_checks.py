"""Checks the metrics of a result against the registry."""

from collections.abc import Mapping, Sequence

from coordinator.errors import Invalid
from shared import benchmarks, kinds, metrics
from shared.metrics import Origin, Weight
from shared.plugins import PluginUnavailable
from shared.wire.benchmarks import BenchmarkScore
from shared.wire.tasks.results import BenchmarkResult, EvaluateResult, TrainResult


def check_metrics(result: TrainResult | EvaluateResult, kind_name: str) -> None:
    """Raise Invalid unless each metric is one that such a task of this kind of training has, and within its bounds.

    An evaluation reports all of its metrics, since their mean over the clients needs them. An owner need not report the
    losses of a training.
    """
    origin = Origin.EVALUATION if isinstance(result, EvaluateResult) else Origin.TRAINING
    is_known = True
    try:
        known = {metric.name: metric for metric in kinds.find(kind_name).metrics_of(origin)}
    except PluginUnavailable:  # the engine pauses the campaign; what an agent has done meanwhile is kept
        is_known = False
        every_kind = (*metrics.losses("", Weight.ROWS), *metrics.COMMON)
        known = {metric.name: metric for metric in every_kind if metric.origin is origin}
    problems = []
    for name, value in result.metrics.items():
        metric = known.get(name)
        if metric is None and is_known:
            problems.append((name, f"unknown in {origin} of kind {kind_name}; known are {', '.join(known)}"))
        elif metric is not None and (problem := metric.problem(value)):
            problems.append((name, problem))
    if origin is Origin.EVALUATION:
        problems += [(name, f"required in evaluation of kind {kind_name}") for name in known.keys() - result.metrics]
    if problems:
        raise Invalid(*((f"metrics.{name}", message) for name, message in sorted(problems)))


def check_scores(result: BenchmarkResult, asked: Sequence[str], items: Mapping[str, str]) -> None:
    """Raise Invalid unless each benchmark that was asked has one score: all of its metrics within their bounds and on
    the right items, or a reason.

    Args:
        result: of an agent.
        asked: names of the task's benchmarks.
        items: digest of the items of each benchmark, by its name: those of the campaign, or those that the agent offers
            while none are settled.
    """
    names = [score.name for score in result.scores]
    if sorted(names) != sorted(asked):
        raise Invalid(("scores", f"they are of {', '.join(names)}, and {', '.join(asked)} were asked for"))
    problems = [(f"scores.{score.name}", problem) for score in result.scores if (problem := _wrong(score, items))]
    if problems:
        raise Invalid(*problems)


def _wrong(score: BenchmarkScore, items: Mapping[str, str]) -> str | None:
    known = benchmarks.benchmarks().get(score.name)
    metrics_of_it = {metric.name: metric for metric in known.metrics} if known is not None else {}
    if bool(score.values) == bool(score.not_run):
        return "it has values and a reason why there are none, or neither"
    if not score.values:
        return None
    if score.items_sha256 != items.get(score.name):
        return "it is of other items than those of the campaign, or than those that this agent offers"
    if score.values.keys() != metrics_of_it.keys():
        return f"its metrics are {', '.join(score.values)}, and those of the benchmark are {', '.join(metrics_of_it)}"
    if not 1 <= score.n <= score.n_asked:
        return f"{score.n} of {score.n_asked} items count"
    return next(filter(None, (metrics_of_it[name].problem(value) for name, value in score.values.items())), None)
