"""What one benchmark gives of one adapter: its metrics, or why there are none."""

import logging
import math
from collections.abc import Sequence
from functools import partial

from agent.benchmarks.interface import Listening
from agent.errors import AgentError, TaskFailed
from fedloom.evaluation.asking.models import NoChatTemplate
from fedloom.evaluation.asking.replies import StoredModel
from fedloom.evaluation.campaigns.ready import ReadyBenchmark
from fedloom.evaluation.running.checked import checked_outcomes
from fedloom.evaluation.sandbox.isolation import NoIsolation
from fedloom.evaluation.statistics.scored_items import scored_items, value_of
from fedloom.evaluation.tasks.base import HarnessFailed, Outcome, Task
from shared.text.unsafe import one_line
from shared.wire.benchmarks import MAX_REASON, BenchmarkScore, OfferedBenchmark
from shared.wire.tasks.leases import FailureKind

log = logging.getLogger(__name__)

_OF_ITEMS = (FailureKind.DATA, FailureKind.OUT_OF_MEMORY)
"""Failures that lie in what one benchmark asks, such as a chat template that refuses its roles, or one long text."""


def score_of(
    benchmark: ReadyBenchmark, model: StoredModel, n_before: int, n_total: int, listening: Listening
) -> BenchmarkScore:
    """Ask a model. Raises what the model raises unless it lies in the benchmark's items, and OSError.

    Args:
        benchmark: with its items.
        model: what is asked.
        n_before: items of the benchmarks before it.
        n_total: items of all benchmarks.
        listening: receives progress.
    """
    ready, offer = benchmark.task, benchmark.offer
    ready.task.on_program = listening.on_program
    model.on_done = partial(_tell, listening, n_before, len(ready.items), n_total)
    try:
        return _scored(ready.task, checked_outcomes(ready.task, ready.items, model), offer)
    except (NoChatTemplate, NoIsolation, HarnessFailed) as error:
        return without_number(offer, str(error))
    except TaskFailed as error:
        if error.failure.kind not in _OF_ITEMS:
            raise
        log.info("benchmark %s: %s", offer.name, error)
        return without_number(offer, error.failure.message)
    except (AgentError, OSError):
        raise
    except Exception as error:  # a reply that nobody thought of costs this number, and not those of the others
        log.exception("benchmark %s", offer.name)
        return without_number(offer, f"it failed ({type(error).__name__})")


def without_number(offer: OfferedBenchmark, reason: str, n_asked: int = 0) -> BenchmarkScore:
    """The score of a benchmark that gave no number."""
    said = one_line(reason, MAX_REASON) or "no reason is known"
    return BenchmarkScore(name=offer.name, items_sha256=offer.items_sha256, n=0, n_asked=n_asked, not_run=said)


def _tell(listening: Listening, n_before: int, n_items: int, n_total: int, done: int, total: int) -> None:
    listening.on_items(n_before + (n_items * done // total if total else 0), n_total)


def _scored(task: Task, outcomes: Sequence[Outcome], offer: OfferedBenchmark) -> BenchmarkScore:
    """All metrics, or none if one has no value. No interval is sent, so none is computed."""
    values: dict[str, float] = {}
    counts = []
    n_asked = len({outcome.item for outcome in outcomes})
    for metric in task.metrics:
        scored = scored_items(metric, outcomes)
        items = list(scored.items.values())
        value = value_of(task, metric, items) if items else math.nan
        if not math.isfinite(value):
            problem = next(iter(scored.problem_counts()), "its value is beyond all numbers")
            return without_number(offer, f"{metric.name}: {problem}" if values else problem, n_asked)
        # a mean of shares may be above 1 by a rounding error, and the coordinator takes none
        values[f"{offer.name}.{metric.name}"] = min(max(value, 0.0), 1.0) if metric.is_share else value
        counts.append(len(items))
    return BenchmarkScore(
        name=offer.name, items_sha256=offer.items_sha256, n=min(counts), n_asked=n_asked, values=values
    )
