"""How a campaign's adapters are measured, and what follows of it: which is the best, and when the campaign stops."""

import difflib
from collections.abc import Collection
from typing import Annotated, Self

from pydantic import Field, ValidationInfo, model_validator

from shared import benchmarks as public
from shared.bounds import Count
from shared.campaign.sections import FROM_COORDINATOR, Section
from shared.metrics import HELD_OUT_LOSS, MetricName

BenchmarkName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
MAX_BENCHMARKS = 100


class StopSection(Section):
    """Ends the campaign once its adapters no longer get better. The next round waits for the evaluation of the adapter
    before it."""

    metric: MetricName | None = None
    """The metric that decides; by default that of `evaluation.best`."""
    patience: Annotated[Count, Field(ge=1)] = 3
    """Evaluations in a row without an improvement after which the campaign ends. Adapters that are not evaluated do not
    count."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """An improvement is better than the best so far by more than this, in the unit of the metric; shares are from 0 to
    1."""


class EvaluationSection(Section):
    """Evaluation of the global adapters: on each agent's held-out rows, which are never trained on, and by public
    benchmarks at agents whose owners let them run these. Only numbers leave an agent."""

    every: Count = 1
    """Evaluate the global adapter on held-out rows after every n rounds, and always adapter 0 and the last one. 0 never
    does."""
    suite: BenchmarkName | None = None
    """A suite of public benchmarks to run as well, such as `finance`: `fedloom evaluate --list` names them. They run at
    agents whose `policy.suites` names them and that have their data."""
    tasks: Annotated[list[BenchmarkName], Field(min_length=1, max_length=MAX_BENCHMARKS)] | None = None
    """Public benchmarks by name, such as `[fpb, gsm8k]`, in place of a suite or beside it. Their metrics are called
    `TASK.METRIC`, such as `fpb.acc`."""
    tasks_every: Annotated[Count, Field(ge=1)] | None = None
    """Run the benchmarks after every n rounds, and always on adapter 0 and the last one; by default as often as
    `every`."""
    limit: Annotated[Count, Field(ge=1)] | None = None
    """Most items of a benchmark, spread over its subjects; by default all. Every adapter is asked the same ones."""
    seed: Count = 0
    """Seed of the draw of these items."""
    best: MetricName = HELD_OUT_LOSS
    """The metric by which the best adapter is chosen: one of the held-out rows, `TASK.METRIC` of a benchmark, or
    `SUITE.MEAN`, a mean over the benchmarks of the suite."""
    stop: StopSection | None = None
    """When to end before the last round. Never if left out."""

    @property
    def benchmarks(self) -> list[str]:
        """The benchmarks that run, in order, without those that this version does not know."""
        suite = public.suites().get(self.suite or "")
        named = [*(suite.benchmarks if suite is not None else ()), *(self.tasks or ())]
        return [name for name in dict.fromkeys(named) if name in public.benchmarks()]

    @property
    def means(self) -> list[public.SuiteMean]:
        """The means over benchmarks of the suite."""
        suite = public.suites().get(self.suite or "")
        return [*suite.means] if suite is not None else []

    @property
    def asks_for_a_decision(self) -> bool:
        """Whether the file says by what to choose the best adapter, or when to stop."""
        return self.best != HELD_OUT_LOSS or self.stop is not None

    @property
    def stop_metric(self) -> str | None:
        """The metric by which the campaign stops; None if it never does."""
        return (self.stop.metric or self.best) if self.stop is not None else None

    @property
    def decides_by(self) -> list[str]:
        """The metrics that something is decided by: that of the best adapter, then that of the stop."""
        return [*dict.fromkeys(name for name in (self.best, self.stop_metric) if name is not None)]

    def on_held_out_rows(self, adapter_number: int, rounds: int) -> bool:
        """Whether a global adapter is evaluated on held-out rows. rounds: number of the campaign's last one."""
        return _is_due(self.every, adapter_number, rounds)

    def by_benchmarks(self, adapter_number: int, rounds: int) -> bool:
        """Whether benchmarks run on a global adapter."""
        return bool(self.benchmarks) and _is_due(self.tasks_every or self.every, adapter_number, rounds)

    @model_validator(mode="after")
    def _names_are_known(self, info: ValidationInfo) -> Self:
        if info.context is FROM_COORDINATOR:
            return self  # the coordinator checked them; the reader may be older
        if self.suite is not None and self.suite not in public.suites():
            raise ValueError(f"suite: {_unknown('suite', self.suite, public.suites())}")
        unknown = [name for name in self.tasks or () if name not in public.benchmarks()]
        if unknown:
            raise ValueError(f"tasks: {_unknown('benchmark', unknown[0], public.benchmarks())}")
        if self.benchmarks and not (self.tasks_every or self.every):
            message = "tasks_every: give the rounds after which benchmarks run, since every is 0"
            raise ValueError(message)
        if not self.benchmarks and (self.tasks_every is not None or self.limit is not None):
            field = "tasks_every" if self.tasks_every is not None else "limit"
            raise ValueError(f"{field}: it is of benchmarks, and the campaign names none in suite or tasks")
        return self


def _is_due(every: int, adapter_number: int, rounds: int) -> bool:
    return every > 0 and (adapter_number % every == 0 or adapter_number == rounds)


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    every = f"known are {', '.join(known)}" if what == "suite" else "`fedloom evaluate --list` names all"
    hint = f"; did you mean {close[0]}?" if close else f"; {every}"
    return f"there is no {what} {name} on public data{hint}"
