"""Tasks of one's own that are wrong: each is named, and none gives a number."""

from pathlib import Path

import pytest

from fedloom.errors import EvaluationError
from fedloom.evaluation.evaluate import planned
from fedloom.evaluation.running.run import run
from fedloom.evaluation.tasks.registry import find_task
from tests.support.counting_model import CountingModel

TASK = """\
from fedloom.evaluation.tasks.base import Item, Items, Outcome, Task, TaskMetric


class Mine(Task):
    name = {name}
    title = "Mine"
    metrics = {metrics}
    files = ()

    def load(self, data):
        return Items([Item(str(n), "", {{}}) for n in range(4)], 4, {{}})

    def run(self, items, model):
        {body}
"""
METRIC = 'TaskMetric("acc", "accuracy", "right")'
RIGHT = 'return [Outcome(item.id, "", {"acc": 1.0}) for item in items]'


def own(folder: Path, body: str = RIGHT, name: str = "'mine'", metrics: str = f"[{METRIC}]") -> str:
    path = folder / "mine.py"
    path.write_text(TASK.format(body=body, name=name, metrics=metrics))
    return f"{path}:Mine"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('return [Outcome(item.id, "", {"acc": 1.0}) for item in items[:2]]', "2 of 4 items have no outcome"),
        ('return [Outcome(f"x{item.id}", "", {"acc": 1.0}) for item in items]', "4 of 4 items have no outcome"),
        (f"{RIGHT} + [Outcome('9', '', {{'acc': 1.0}})]", "an outcome is of '9', which is no item"),
        (f"{RIGHT} + [Outcome('1', '', {{'acc': 1.0}})]", "some items have more outcomes than others"),
        ('return [Outcome(item.id, "", {"acc": 7.0}) for item in items]', "acc of '0' is 7; a share is from 0 to 1"),
        ('return [Outcome(item.id, "", {"acc": "1"}) for item in items]', "acc of '0' is '1', and no number"),
        ("return None", "its code failed: TypeError"),
        ("raise RuntimeError('boom')", "its code failed: RuntimeError: boom"),
        ("raise SystemExit(0)", "its code failed: SystemExit"),
    ],
)
def test_outcomes_that_are_not_those_of_the_items_end_the_run(tmp_path: Path, body: str, said: str) -> None:
    plan = planned(None, [own(tmp_path, body)], data=tmp_path)
    with pytest.raises(EvaluationError) as caught:
        run(plan, [CountingModel()], tmp_path / "out")
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"mine of {tmp_path / 'mine.py'}: ")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"name": "'../../escaped'"}, "name is '../../escaped', and not letters"),
        ({"name": "'x' * 61"}, "60 at most"),
        ({"name": "None"}, "name is None"),
        ({"metrics": "[]"}, "metrics are no TaskMetrics, or there are none"),
        ({"metrics": "['acc']"}, "metrics are no TaskMetrics, or there are none"),
        ({"metrics": f"[{METRIC}, {METRIC}]"}, "two metrics have the name acc"),
    ],
)
def test_a_task_without_a_usable_name_or_metric_is_refused(tmp_path: Path, part: dict[str, str], said: str) -> None:
    with pytest.raises(EvaluationError, match=r"mine\.py: Mine: ") as caught:
        find_task(own(tmp_path, **part))
    assert said in str(caught.value)


def test_names_of_tasks_and_models_never_share_a_file(tmp_path: Path) -> None:
    names = ("own", "own-x")
    tasks = []
    for n, name in enumerate(names):
        (tmp_path / str(n)).mkdir()
        tasks.append(own(tmp_path / str(n), name=repr(name)))
    run(planned(None, tasks, data=tmp_path), [CountingModel("x-y"), CountingModel("y", "b" * 64)], tmp_path / "out")
    written = sorted(
        path.relative_to(tmp_path / "out/items").as_posix() for path in (tmp_path / "out/items").rglob("*.*")
    )
    assert written == ["own-x/x-y.jsonl", "own-x/y.jsonl", "own/x-y.jsonl", "own/y.jsonl"]
