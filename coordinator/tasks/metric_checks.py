"""Checks the metrics of a result against the registry."""

from coordinator.errors import Invalid
from shared import kinds
from shared.metrics import Origin
from shared.plugins import PluginUnavailable
from shared.wire.jobs import EvaluateResult, TrainResult


def check_metrics(result: TrainResult | EvaluateResult, kind_name: str) -> None:
    """Raise Invalid unless each metric is one that such a task of this kind of training has, and within its bounds.

    An evaluation reports all of its metrics, since their mean over the clients needs them. An owner need not report the
    losses of a training.
    """
    origin = Origin.EVALUATION if isinstance(result, EvaluateResult) else Origin.TRAINING
    try:
        known = {metric.name: metric for metric in kinds.find(kind_name).metrics_of(origin)}
    except PluginUnavailable:
        return  # the engine pauses the campaign; what an agent has done meanwhile is kept
    problems = []
    for name, value in result.metrics.items():
        metric = known.get(name)
        if metric is None:
            problems.append((name, f"unknown in {origin} of kind {kind_name}; known are {', '.join(known)}"))
        elif problem := metric.problem(value):
            problems.append((name, problem))
    if origin is Origin.EVALUATION:
        problems += [(name, f"required in evaluation of kind {kind_name}") for name in known.keys() - result.metrics]
    if problems:
        raise Invalid(*((f"metrics.{name}", message) for name, message in sorted(problems)))
