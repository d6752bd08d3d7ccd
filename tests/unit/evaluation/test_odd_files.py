"""Files that look right and are not: refused in words, and no other task is lost."""

from pathlib import Path

import pytest

from fedloom.errors import EvaluationError
from fedloom.evaluation.api import evaluate
from fedloom.evaluation.data.listing import listed
from fedloom.evaluation.suites import read_suite
from fedloom.evaluation.tasks.base import BadData
from fedloom.evaluation.tasks.registry import TASKS
from tests.support.published.files import write, write_jsonl


def test_a_column_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "rows/test.csv", "prompt,completion,completion\nSay,this,that\n")
    with pytest.raises(BadData, match=r"rows/test\.csv has two columns 'completion'"):
        TASKS["rows"]().load(tmp_path)


@pytest.mark.parametrize("answer", ["So it is #### NaN", "#### many", "####"])
def test_an_answer_without_a_number_is_refused(tmp_path: Path, answer: str) -> None:
    for name in ("test", "train"):
        write_jsonl(tmp_path / f"gsm8k/{name}.jsonl", [{"question": "How many?", "answer": answer}])
    with pytest.raises(BadData, match="has no number after"):
        TASKS["gsm8k"]().load(tmp_path)


def test_parquet_with_a_value_beyond_the_calendar_is_refused_by_name(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "rows").mkdir()
    columns = {"prompt": ["Say"], "completion": ["this"], "day": pa.array([2**30], pa.date32())}
    parquet.write_table(pa.table(columns), tmp_path / "rows/test.parquet")
    with pytest.raises(BadData, match=r"rows/test\.parquet cannot be read as Parquet"):
        TASKS["rows"]().load(tmp_path)
    [found] = listed([TASKS["rows"]()], tmp_path)
    assert "rows/test.parquet" in found.problem


def test_a_suite_that_is_no_file_is_refused(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "suite.yaml")
    with pytest.raises(EvaluationError, match=r"suite\.yaml is no file"):
        read_suite(str(tmp_path / "suite.yaml"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"adapters": "adapter"}, "adapters are a list of folders"),
        ({"tasks": "fpb"}, "tasks are a list of names"),
        ({"limit": 2.5}, "a limit is a whole number from 1 on"),
        ({"limit": 0}, "a limit is a whole number from 1 on"),
        ({"seed": -1}, "a seed is a whole number from 0 on"),
        ({"seed": 1.5}, "a seed is a whole number from 0 on"),
        ({"threads": 0}, "threads are 1 or more"),
    ],
)
def test_what_the_command_refuses_python_refuses_too(tmp_path: Path, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        evaluate(**{"base": "tiny", "data": tmp_path, "tasks": ["fpb"], **arguments})  # type: ignore[arg-type]
