"""Which hyperparameters a method is shown with: the best of those that it tried."""

from collections.abc import Mapping
from concurrent.futures import Future

from fedloom.comparison.criterion import Criterion
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import Method
from fedloom.comparison.results import MethodResult, Tried
from fedloom.comparison.running.trial_scores import TrialScores
from fedloom.errors import TrialFailed


def chosen(
    method: Method, tried: Mapping[Hyperparameters, Future[TrialScores]], criterion: Criterion, part: str
) -> MethodResult:
    """The best hyperparameters of a method; the first ones if several are equally good.

    Args:
        method: what was trained.
        tried: its ended trials. One that is alone was not scored for choosing.
        criterion: what is compared.
        part: the split of rows, or the tasks, that it is measured on.
    """
    result = MethodResult(method)
    best: float | None = None
    for hyperparameters, future in tried.items():
        found = result.tried[hyperparameters] = _tried(future, part)
        value = found.values.get(criterion.metric)
        if not found.failure and value is None and len(tried) > 1:
            reasons = (score.not_run for score in found.tasks if score.not_run)
            found.failure = (
                f"{method.name}, {hyperparameters}: no {criterion.metric}: {next(reasons, 'it has no value')}"
            )
        if found.failure:
            continue
        if result.hyperparameters is None or (
            value is not None and best is not None and criterion.is_better(value, best)
        ):
            result.hyperparameters, best = hyperparameters, value
    if result.hyperparameters is None:  # otherwise: a grid is expected to hold values that fail
        result.failures += [each.failure for each in result.tried.values()]
    return result


def _tried(future: Future[TrialScores], part: str) -> Tried:
    try:
        scores = future.result()
    except TrialFailed as failed:
        return Tried(failure=str(failed))
    return Tried(scores.rows.get(part, {}), scores.tasks[part].scores if part in scores.tasks else [])
