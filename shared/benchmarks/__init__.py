"""The public benchmarks that a campaign may have its adapters measured on, by name: what they measure, no code.

Coordinators and agents check names and values by this table. What runs a benchmark is ``fedloom.evaluation``, which
writes the table: ``make docs``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from shared.metrics import Better, Metric, Origin

CATALOGUE_FILE = "catalogue.json"


@dataclass(frozen=True)
class Benchmark:
    """One benchmark, a task of ``fedloom evaluate`` on public data.

    Args:
        name: such as ``gsm8k``.
        title: for people.
        metrics: what it gives, named ``TASK.METRIC``.
        runs_code: whether it runs code that the model wrote, in a sandbox.
    """

    name: str
    title: str
    metrics: Sequence[Metric]
    runs_code: bool


@dataclass(frozen=True)
class SuiteMean:
    """An unweighted mean over benchmarks of a suite.

    Args:
        metric: what it is, named ``SUITE.MEAN``.
        over: the metrics that it is the mean of, one a benchmark.
    """

    metric: Metric
    over: Sequence[str]


@dataclass(frozen=True)
class Suite:
    """Benchmarks that belong together.

    Args:
        name: such as ``finance``.
        title: for people.
        benchmarks: their names.
        means: over them.
    """

    name: str
    title: str
    benchmarks: Sequence[str]
    means: Sequence[SuiteMean]


@cache
def benchmarks() -> Mapping[str, Benchmark]:
    """All benchmarks by name."""
    return {name: _benchmark(name, facts) for name, facts in _catalogue()["benchmarks"].items()}


@cache
def suites() -> Mapping[str, Suite]:
    """All suites by name, of which every task is a benchmark."""
    return {name: _suite(name, facts) for name, facts in _catalogue()["suites"].items()}


def named_by(patterns: Sequence[str]) -> frozenset[str]:
    """The benchmarks that an owner names, each by its own name or by a suite's; ``*`` names all."""
    if "*" in patterns:
        return frozenset(benchmarks())
    of_suites = {name for pattern in patterns if pattern in suites() for name in suites()[pattern].benchmarks}
    return frozenset(of_suites | (set(patterns) & benchmarks().keys()))


@cache
def _catalogue() -> dict[str, dict[str, dict[str, object]]]:
    found: dict[str, dict[str, dict[str, object]]] = json.loads(files(__name__).joinpath(CATALOGUE_FILE).read_bytes())
    return found


def _benchmark(name: str, facts: Mapping[str, object]) -> Benchmark:
    title, metrics = facts["title"], facts["metrics"]
    assert isinstance(title, str)
    assert isinstance(metrics, dict)
    return Benchmark(
        name=name,
        title=title,
        metrics=tuple(_metric(f"{name}.{metric}", title, each) for metric, each in metrics.items()),
        runs_code=bool(facts["runs_code"]),
    )


def _suite(name: str, facts: Mapping[str, object]) -> Suite:
    title, tasks, means = facts["title"], facts["benchmarks"], facts["means"]
    assert isinstance(title, str)
    assert isinstance(tasks, list)
    assert isinstance(means, dict)
    return Suite(name, title, tuple(tasks), tuple(_mean(name, mean, each) for mean, each in means.items()))


def _mean(suite: str, name: str, facts: Mapping[str, object]) -> SuiteMean:
    over = facts["over"]
    assert isinstance(over, list)
    first, _, _ = str(over[0]).partition(".")
    like = next(each for each in benchmarks()[first].metrics if each.name == over[0])
    named = {"name": f"{suite}.{name}", "title": f"{suite}, {facts['title']}"}
    return SuiteMean(like.model_copy(update=named), tuple(map(str, over)))


def _metric(name: str, of: str, facts: Mapping[str, object]) -> Metric:
    is_share = facts["is_share"]
    return Metric(
        name=name,
        title=f"{of}, {facts['title']}",
        origin=Origin.BENCHMARK,
        better=Better(str(facts["better"])),
        minimum=0 if is_share else None,
        maximum=1 if is_share else None,
    )
