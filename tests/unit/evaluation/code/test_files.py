"""Files of code that are missing, truncated, edited or of another split."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from fedloom.evaluation.tasks.base import BadData, DataMissing
from fedloom.evaluation.tasks.code.names import CODE_TASKS
from tests.support.published import code as made_up
from tests.support.published.code import write

HUMANEVAL = "humaneval/HumanEval.jsonl.gz"


@pytest.mark.parametrize("name", CODE_TASKS)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    task = CODE_TASKS[name]()
    with pytest.raises(DataMissing, match=f"put {task.files[0].path} into .*: "):
        task.load(tmp_path)


@pytest.mark.parametrize("name", CODE_TASKS)
def test_a_task_says_whose_it_is_and_by_which_rule(name: str) -> None:
    task = CODE_TASKS[name]()
    assert task.name == name
    assert task.origin
    assert all(metric.rule for metric in task.metrics)
    assert task.in_chat == ("_chat" in name)
    assert len({CODE_TASKS[each]().title + "n20" * ("n20" in each) for each in CODE_TASKS}) == len(CODE_TASKS)


def test_a_file_without_compression_is_as_good(tmp_path: Path) -> None:
    write(tmp_path, "humaneval/HumanEval.jsonl", made_up.HUMANEVAL)
    items = CODE_TASKS["humaneval"]().load(tmp_path)
    assert list(items.digests) == ["humaneval/HumanEval.jsonl"]
    assert (len(items.items), items.n_published) == (2, 164)
    assert items.notes == [f"{HUMANEVAL} was read from humaneval/HumanEval.jsonl", "a slice: 2 of 164 items"]


@pytest.mark.parametrize("n_bytes", [-20, 40])
def test_a_truncated_archive(tmp_path: Path, n_bytes: int) -> None:
    file = write(tmp_path, HUMANEVAL, made_up.HUMANEVAL)
    file.write_bytes(file.read_bytes()[:n_bytes])
    with pytest.raises(BadData, match="truncated"):
        CODE_TASKS["humaneval"]().load(tmp_path)


def test_a_truncated_line(tmp_path: Path) -> None:
    file = write(tmp_path, "mbpp/mbpp.jsonl", made_up.MBPP)
    file.write_text(file.read_text()[:-30])
    with pytest.raises(BadData, match="line 6 is not JSON; is the file truncated"):
        CODE_TASKS["mbpp"]().load(tmp_path)


@pytest.mark.parametrize(
    ("name", "path", "rows", "says"),
    [
        ("humaneval", HUMANEVAL, [made_up.HUMANEVAL[0]] * 2, "HumanEval/0 more than once"),
        ("humaneval", HUMANEVAL, [{**made_up.HUMANEVAL[0], "task_id": str(n)} for n in range(165)], "another split"),
        ("humaneval", HUMANEVAL, [{"prompt": "x"}], "row 1 has no task_id and no entry_point and no test"),
        ("mbpp", "mbpp/mbpp.jsonl", made_up.MBPP[3:], r"lacks the rows \[2, 3, 4\]"),
        ("mbpp", "mbpp/mbpp.jsonl", made_up.MBPP[:3], "has no rows of this set"),
        ("mbpp_sanitized", "mbpp/sanitized-mbpp.json", made_up.MBPP, "row 1 has no prompt"),
        ("mbpp", "mbpp/mbpp.jsonl", [*made_up.MBPP[:3], {**made_up.MBPP[3], "test_list": []}], "test nothing"),
        ("ds1000", "ds1000/test.jsonl", [{**made_up.DS1000[0], "code_context": "x"}], "no test_execution"),
        ("ds1000", "ds1000/test.jsonl", [{**made_up.DS1000[0], "metadata": {}}], "no problem_id"),
    ],
)
def test_what_is_no_such_set_is_refused(
    tmp_path: Path, name: str, path: str, rows: list[dict[str, Any]], says: str
) -> None:
    write(tmp_path, path, rows)
    with pytest.raises(BadData, match=says):
        CODE_TASKS[name]().load(tmp_path)


def test_the_test_of_mbpp_is_ids_11_to_510(tmp_path: Path) -> None:
    write(tmp_path, "mbpp/mbpp.jsonl", list(reversed(made_up.MBPP)))
    items = CODE_TASKS["mbpp"]().load(tmp_path)
    assert [item.id for item in items.items] == ["12", "11"]


def test_garbage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "humaneval").mkdir()
    (tmp_path / HUMANEVAL).write_bytes(gzip.compress(b"\xff\xfe\x00"))
    with pytest.raises(BadData):
        CODE_TASKS["humaneval"]().load(tmp_path)
