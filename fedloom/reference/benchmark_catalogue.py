"""Writes ``shared/benchmarks/catalogue.json``: what coordinators and agents know of the tasks on public data.

python -m fedloom.reference.benchmark_catalogue > shared/benchmarks/catalogue.json
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from fedloom.evaluation.evaluate import averages_of
from fedloom.evaluation.suites import built_in, read_suite
from fedloom.evaluation.tasks.base import Task
from fedloom.evaluation.tasks.registry import BENCHMARKS, find_task


def catalogue() -> str:
    """The text of the file."""
    tasks = {name: find_task(name) for name in BENCHMARKS}
    named = {name: read_suite(name)[0] for name in built_in()}
    suites = {name: suite for name, suite in named.items() if tasks.keys() >= set(suite.tasks)}
    known = {
        "benchmarks": {name: _benchmark(task) for name, task in tasks.items()},
        "suites": {
            name: {
                "title": suite.title,
                "benchmarks": suite.tasks,
                "means": _means(suite.averages, tasks),
            }
            for name, suite in suites.items()
        },
    }
    return json.dumps(known, indent=1, ensure_ascii=False) + "\n"


def _benchmark(task: Task) -> dict[str, Any]:
    metrics = {
        metric.name: {
            "title": metric.title,
            "better": "higher" if metric.best == 1 else "lower",
            "is_share": metric.is_share,
        }
        for metric in task.metrics
    }
    return {"title": task.title, "runs_code": task.runs_code, "metrics": metrics}


def _means(sections: Sequence[Any], tasks: Mapping[str, Task]) -> dict[str, Any]:
    return {
        mean.name: {"title": mean.title, "over": [f"{task}.{mean.metric.name}" for task in mean.tasks]}
        for section in sections
        for mean in averages_of(section, tasks)
    }


if __name__ == "__main__":
    sys.stdout.write(catalogue())
