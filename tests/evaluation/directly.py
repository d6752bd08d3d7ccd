"""lm-evaluation-harness run directly: on its own tasks, over its own model or one that replies from a table."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval
import yaml
from lm_eval.api.model import LM
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager

TASKS = Path(lm_eval.__file__).parent / "tasks"


class Scripted(LM):
    """Says what a table says: a text for each prompt."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__()
        self._texts = texts

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        found = []
        for request in requests:
            text = self._texts[request.args[0]]
            for stop in request.args[1]["until"]:
                text = text.split(stop)[0]
            found.append(text)
        return found

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[Any]:
        raise NotImplementedError


def evaluate(lm: Any, include: str, rows: Sequence[Any], shots: Sequence[Any] = (), **changes: Any) -> dict[str, Any]:
    """Results of a task of the harness on rows of our own, and ``samples``: what came of each row.

    Args:
        lm: the harness's model.
        include: the file of the task, below the harness's folder of tasks.
        rows: in the columns that the task reads.
        shots: examples, for tasks that read them.
        changes: further fields of the task.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"test": _lines(folder / "test.jsonl", rows)}
        if shots:
            files["shots"] = _lines(folder / "shots.jsonl", shots)
        task = {
            "include": str(TASKS / include),
            "task": "direct",
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
            "training_split": None,
            "validation_split": None,
            "test_split": "test",
            **({"fewshot_split": "shots"} if shots else {}),
            **changes,
        }
        (folder / "direct.yaml").write_text(yaml.safe_dump(task))
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        found = simple_evaluate(model=lm, tasks=["direct"], task_manager=manager, bootstrap_iters=0)
        assert found is not None
        return {**found["results"]["direct"], "samples": found["samples"]["direct"]}


def _lines(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
