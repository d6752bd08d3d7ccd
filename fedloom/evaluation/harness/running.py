"""One run of lm-evaluation-harness: a task of our YAML files on given rows."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedloom.errors import HarnessMissing
from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.requests import Reply, Request
from fedloom.evaluation.harness.rows import Part, lent

FOLDER = Path(__file__).parent / "yaml"
"""The tasks. Those that come with the harness are never indexed: there are 14,683, and many fetch what they need."""
FEWSHOT_SEED = 1234
_ONE_AT_A_TIME = threading.Lock()
"""``quiet`` changes what belongs to the whole process: a comparison evaluates several models side by side."""


@dataclass(frozen=True)
class Sample:
    """What came of one row.

    Args:
        values: of the task's metrics, by filter and name.
        filtered: what each filter took from the first reply.
        requests: what the model was asked, in the order of the options.
        replies: to them.
    """

    values: Mapping[tuple[str, str], Any]
    filtered: Mapping[str, Any]
    requests: Sequence[Request]
    replies: Sequence[Reply]


def check_installed() -> None:
    """Raise HarnessMissing if the harness is not installed."""
    if find_spec("lm_eval") is None:
        raise HarnessMissing


def run(task: str, parts: Mapping[str, Part], model: Model) -> dict[str, list[Sample]]:
    """Ask a model all rows of all parts, and score its replies. Returns what came of the rows of each part, in order.

    Nothing is printed, fetched or left on the disk. Raises HarnessMissing, and what the model raises.

    Args:
        task: name of a task in ``yaml/``, which is also the name of its file.
        parts: rows with the same shots, by name.
        model: what is asked.
    """
    check_installed()
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    from fedloom.evaluation.harness.model import HarnessModel
    from fedloom.evaluation.harness.quiet import quiet

    asked = HarnessModel(model)
    with _ONE_AT_A_TIME, quiet(), ExitStack() as stack:
        tasks = {}
        for name, part in parts.items():
            metadata = {"part": stack.enter_context(lent(part))}
            manager = TaskManager(include_path=FOLDER, include_defaults=False, metadata=metadata)
            made = manager.load([task])["tasks"][task]
            made.set_fewshot_seed(seed=FEWSHOT_SEED)
            made.config.task = name
            tasks[name] = made
        results = evaluate(
            lm=asked,
            task_dict={"tasks": tasks},
            samples={name: list(range(len(part.rows))) for name, part in parts.items()},
            bootstrap_iters=0,
            log_samples=True,
        )
    return {name: _samples(results["samples"][name], len(part.rows), asked.replies) for name, part in parts.items()}


def _samples(entries: Sequence[Mapping[str, Any]], n: int, replies: Mapping[Request, Reply]) -> list[Sample]:
    """The harness's entries, one for each row and filter, by row."""
    from fedloom.evaluation.harness.model import request_of

    values: list[dict[tuple[str, str], Any]] = [{} for _ in range(n)]
    filtered: list[dict[str, Any]] = [{} for _ in range(n)]
    requests: list[list[Request]] = [[] for _ in range(n)]
    for entry in entries:
        place, name = entry["doc_id"], entry["filter"]
        values[place] |= {(name, metric): entry[metric] for metric in entry["metrics"]}
        filtered[place][name] = entry["filtered_resps"][0]
        requests[place] = [request_of(arguments) for arguments in entry["arguments"]]
    return [
        Sample(values[i], filtered[i], requests[i], [replies[request] for request in requests[i]]) for i in range(n)
    ]
