"""Training rows that hold items: results count them, and have no text of a row."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent.data.source import DataSource
from fedloom.errors import EvaluationError
from fedloom.evaluation.data.training_rows import TrainingRows, training_texts
from fedloom.evaluation.evaluate import planned
from fedloom.evaluation.results import RESULTS_FILE
from fedloom.evaluation.running import ready
from fedloom.evaluation.running.ready import prepare
from fedloom.evaluation.running.run import run
from tests.support.counting_model import CountingModel

ROWS = [{"prompt": f"Where does the ship number {n} of the line go?", "completion": f"To port {n}."} for n in range(6)]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_items_that_were_trained_on_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "data/rows/test.jsonl", list(ROWS))
    secret = "a word that only the owner has"
    talk = [{"role": "user", "content": ROWS[2]["prompt"]}, {"role": "assistant", "content": secret}]
    rows = [{"messages": talk}, {"messages": [{"role": "user", "content": ROWS[4]["prompt"].upper()}]}]
    training = write(tmp_path / "training/rows.jsonl", list(rows))
    plan = planned(None, ["rows"], data=tmp_path / "data", training=[training.parent])
    [found] = run(plan, [CountingModel()], tmp_path / "out").tasks
    assert found.overlap == "2 of 6 items of rows (33.3%) occur in the 2 training rows, 1 exactly"
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert found.overlap.encode() in (tmp_path / "out" / RESULTS_FILE).read_bytes()
    assert secret.encode() not in written
    without = planned(None, ["rows"], data=tmp_path / "data")
    assert run(without, [CountingModel()], tmp_path / "other").tasks[0].overlap == ""


def test_training_rows_are_read_once_for_all_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row | {"chosen": row["completion"], "rejected": "Nowhere."} for row in ROWS]
    for path in ("rows/test.jsonl", "preferences/pairs.jsonl"):
        write(tmp_path / "data" / path, list(rows))
    training = write(tmp_path / "training.jsonl", list(ROWS[:3]))
    passes = []

    def counted(data: Sequence[TrainingRows]) -> Iterator[str]:
        passes.append(data)
        return training_texts(data)

    monkeypatch.setattr(ready, "training_texts", counted)
    names = ["rows", "preferences", "fpb"]
    found = prepare(planned(None, names, data=tmp_path / "data", training=[training]))
    assert passes == [[training]]
    said = "3 of 6 items of {} (50.0%) occur in the 3 training rows, 3 exactly"
    assert [each.facts.overlap for each in found] == [said.format("rows"), said.format("preferences"), ""]
    assert not found[2].can_run
    prepare(planned(None, ["fpb"], data=tmp_path / "data", training=[tmp_path / "none.jsonl"]))
    assert len(passes) == 1, "nothing is looked for"


def test_an_owners_data_is_read_as_its_settings_say(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("wo;d\u00e4nn\n", encoding="latin-1")
    source = DataSource(path=tmp_path / "a.csv", encoding="latin-1", separator=";", columns=["prompt", "completion"])
    assert list(training_texts([source])) == ["wo\nd\u00e4nn"]
    (tmp_path / "b.jsonl").write_text("secret")
    with pytest.raises(EvaluationError, match=r"b\.jsonl: line 1 is not JSON") as caught:
        list(training_texts([DataSource(path=tmp_path / "b.jsonl").named("rows")]))
    assert "secret" not in str(caught.value)


def test_all_columns_of_all_files_are_read(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("question,answer\nwhere,there\n")
    lines = write(tmp_path / "b.jsonl", [{"n": 3, "nested": {"list": ["one", {"two": "two"}]}}])
    assert list(training_texts([table, lines])) == ["where\nthere", "one\ntwo"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.jsonl", None, "there is no such file or folder"),
        ("broken.jsonl", '{"a": "secret"', "line 1"),
        ("rows.pdf", "secret", "unknown file type"),
    ],
)
def test_rows_that_cannot_be_read_are_named_without_their_content(
    tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(EvaluationError, match=said) as caught:
        list(training_texts([path]))
    assert str(path) in str(caught.value)
    assert "secret" not in str(caught.value)
