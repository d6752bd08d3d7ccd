"""How far each row of a comparison is from one of them, over the same items: paired differences with 95 % intervals.

    python benchmarks/paired.py phrasebank/comparison --to fedavg

reads the items that `fedloom compare` stored of the tasks that it asked last, seed by seed. A star marks an interval
that excludes zero. It says how much chance is in the choice of items, and nothing of the chance in training.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fedloom.evaluation.statistics.pairs import Difference, difference_of
from fedloom.evaluation.tasks.base import Outcome, Task
from fedloom.evaluation.tasks.registry import find_task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path, help="the folder of a comparison")
    parser.add_argument("--to", default="fedavg", help="the row that others are compared with (default fedavg)")
    parser.add_argument("--task", action="append", default=[], help="a task of one's own, as FILE.py:CLASS")
    parser.add_argument("--owner", default="owner", help="column of the rows that names their owner (default owner)")
    given = parser.parse_args()
    print_differences(given.comparison, given.to, given.owner, own=list(map(find_task, given.task)))


def print_differences(comparison: Path, to: str, owner: str, own: Sequence[Task] = ()) -> None:
    """Print a line for each row, metric and seed.

    Args:
        comparison: its folder.
        to: the row that others are compared with.
        owner: column of the rows that names their owner.
        own: tasks of one's own that were asked.
    """
    print("\t".join(["seed", "task", "metric", "items", "row", f"difference to {to}", "95 % interval"]))
    for folder in sorted((comparison / "runs").iterdir()):
        names = named_by_owner(comparison / "data" / folder.name, owner)
        for row, found in differences(folder, to, own):
            of_metric = [found.task, found.metric.name, str(found.n), names(row)]
            print("\t".join([folder.name.removeprefix("seed-"), *of_metric, *shown(found)]))


def differences(runs: Path, to: str, own: Sequence[Task] = ()) -> Iterator[tuple[str, Difference]]:
    """Each row of one seed, by the name of its folder, less the row *to*, in each metric of each task."""
    asked = sorted(path.parents[1] for path in runs.glob("*/evaluation/items"))
    named = [path for path in asked if path.name.rpartition("-lr")[0] == to]
    if len(named) != 1:
        sys.exit(f"{runs}: {len(named)} rows of {to} were scored by tasks, and not one")
    (first,) = named
    others = [path for path in asked if path != first]
    of_own = {task.name: task for task in own}
    for items in sorted((first / "evaluation/items").iterdir()):
        task = of_own.get(items.name) or find_task(items.name)
        for metric in task.metrics:
            for other in others:
                theirs = outcomes_in(other / "evaluation/items" / items.name)
                yield other.name, difference_of(task, metric, outcomes_in(items), theirs)


def outcomes_in(folder: Path) -> list[Outcome]:
    """The outcomes of the one model that was asked."""
    (path,) = folder.glob("*.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Outcome(
            **{
                **row,
                "label": row["label"] and tuple(row["label"]),
                "texts": row["texts"] and tuple(row["texts"]),
                "flags": frozenset(row["flags"]),
            }
        )
        for row in rows
    ]


def named_by_owner(data: Path, column: str) -> Callable[[str], str]:
    """A function that puts the owner's name behind the number of a client.

    Args:
        data: the folder of a seed, with the rows of each client.
        column: of the rows, which names their owner.
    """
    owners = {}
    for path in data.glob("*.jsonl"):
        with path.open(encoding="utf-8") as file:
            owners[path.stem] = json.loads(file.readline())[column]

    def named(row: str) -> str:
        return next((f"{row} ({owner})" for client, owner in owners.items() if row.startswith(client)), row)

    return named


def shown(found: Difference) -> tuple[str, str]:
    """A difference and its interval; shares in per cent."""
    if found.value is None:
        return found.not_compared, ""
    factor, digits = (100, 1) if found.metric.is_share else (1, 3)
    value, interval = f"{factor * found.value:+.{digits}f}", found.confidence
    if interval is None:
        return value, ""
    is_clear = interval.low > 0 or interval.high < 0
    return f"{value}{'*' * is_clear}", f"{factor * interval.low:+.{digits}f} to {factor * interval.high:+.{digits}f}"


if __name__ == "__main__":
    main()
