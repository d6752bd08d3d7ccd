"""Checks the metrics of a result against the registry."""

from coordinator.errors import Invalid
from shared import kinds, metrics
from shared.metrics import Origin, Weight
from shared.plugins import PluginUnavailable
from shared.wire.results import EvaluateResult, TrainResult


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
