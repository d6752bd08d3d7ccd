"""The same rows from every file format, and the errors of damaged files."""

import bz2
import gzip
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.data.checks.notices import Occurrences
from agent.data.files.records import read_records
from agent.data.files.tables import data_digest
from agent.data.presets import PRESETS
from agent.data.reading import read_rows, scan_rows
from agent.data.rows import Row
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.kinds import find
from shared.wire.tasks.leases import FailureKind

RECORDS = [{"prompt": "oñe", "completion": "two"}, {"prompt": "three\tx", "completion": "four, five"}]
ROWS = [Row("oñe", "", "two"), Row("three\tx", "", "four, five")]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)


def refusal(source: DataSource) -> str:
    with pytest.raises(TaskFailed) as caught:
        read_rows(source, find("sft"))
    assert caught.value.failure.kind == FailureKind.DATA
    return caught.value.failure.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", LINES),
        ("a.json", json.dumps(RECORDS)),
        ("a.csv", 'prompt,completion\noñe,two\n"three\tx","four, five"\n'),
        ("a.tsv", 'prompt\tcompletion\noñe\ttwo\n"three\tx"\tfour, five\n'),
    ],
)
@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".GZ", gzip.compress)],
)
def test_text_files_compressed_or_not(
    tmp_path: Path, name: str, text: str, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(compress(text.encode()))
    assert read_rows(DataSource(path=path), find("sft")).rows == ROWS


def test_text_with_a_separator_is_one_row_a_line_split_at_the_last(tmp_path: Path) -> None:
    path = tmp_path / "Sentences.txt"
    path.write_bytes("Sales at a@b rose 5 £@positive\r\n\n1\nZürich@neutral\n".encode("latin-1"))
    source = DataSource(path=path, separator="@", encoding="ISO-8859-1")
    expected = [Row("Sales at a@b rose 5 £", "", "positive"), Row("1", "", ""), Row("Zürich", "", "neutral")]
    assert read_rows(source, find("sft")).rows == expected
    assert [place for place, _ in read_records(source, Occurrences())] == ["line 1", "line 3", "line 4"]
    assert "set its encoding in agent.toml" in refusal(source.model_copy(update={"encoding": "utf-8"}))
    assert "text with a separator" in refusal(DataSource(path=path))


def test_a_separator_of_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt;completion\na;b\n", encoding="utf-16")
    source = DataSource(path=path, separator=";", encoding="utf-16")
    assert read_rows(source, find("sft")).rows == [Row("a", "", "b")]
    assert "one character" in refusal(source.model_copy(update={"separator": "::"}))


def test_every_error_is_reported_and_reading_continues(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "SECRET"\n{"prompt": "a", "completion": "b"}\n["SECRET"]\n{"prompt": "SECRET"}\n')
    found = list(scan_rows(DataSource(path=path), find("sft")))
    assert [record.place for record in found] == ["line 1", "line 2", "line 3", "line 4"]
    assert found[1].row == Row("a", "", "b")
    assert [(record.error, record.private) for record in found if record.row is None] == [
        (" is not JSON (Expecting ',' delimiter)", ""),
        (" is not a JSON object", ""),
        (" has no column 'completion' (completion)", "; it has 'prompt'"),
    ]
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\na,b\nSECRET\nc,d,e\nf,g\n")
    assert [record.row is None for record in scan_rows(DataSource(path=path), find("sft"))] == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_broken_compression_is_reported(tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    whole = compress(LINES.encode() * 100)
    for content in (whole[: len(whole) // 2], LINES.encode()):
        path.write_bytes(content)
        message = refusal(DataSource(path=path))
        assert "decompressed" in message or "cannot be read" in message, message


def test_json_lines_in_a_file_named_json_are_refused_with_the_right_name(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(LINES)
    assert "a file with one object a line must be named .jsonl" in refusal(DataSource(path=path))


# --- tables


@pytest.fixture
def dataset() -> Any:
    return pytest.importorskip("datasets").Dataset.from_list(RECORDS)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "datasets" in sys.modules:
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_parquet(dataset: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    dataset.to_parquet(path)
    source = DataSource(path=path)
    assert read_rows(source, find("sft")).rows == ROWS
    assert [place for place, _ in read_records(source, Occurrences())] == ["row 1", "row 2"]
    path.write_bytes(path.read_bytes()[:50])
    assert "damaged or not Parquet" in refusal(source)


def test_a_saved_dataset(dataset: Any, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    dataset.save_to_disk(folder)
    assert read_rows(DataSource(path=folder), find("sft")).rows == ROWS


def test_a_saved_dataset_of_several_splits(dataset: Any, tmp_path: Path) -> None:
    from datasets import DatasetDict

    folder = tmp_path / "saved"
    DatasetDict({"train": dataset, "few": dataset.select([1])}).save_to_disk(folder)
    assert read_rows(DataSource(path=folder), find("sft")).rows == ROWS
    assert read_rows(DataSource(path=folder, split="few"), find("sft")).rows == ROWS[1:]
    assert "the data set has no split 'gone'; it has train, 1 of other names" in refusal(
        DataSource(path=folder, split="gone")
    )
    (folder / "train" / "state.json").unlink()
    (folder / "train" / "dataset_info.json").unlink()
    assert "cannot be read" in refusal(DataSource(path=folder))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("state.json", {"_data_files": [{"filename": "../private/rows.arrow"}]}),
        ("state.json", {"_data_files": [{"filename": "/etc/passwd"}]}),
        ("state.json", {"_data_files": [{"filename": "gone/rows.arrow"}]}),
        ("state.json", {"_data_files": [{"filename": "pin.txt"}]}),
        ("state.json", {"_data_files": ["rows.arrow"]}),
        ("state.json", {"_data_files": 5}),
        ("dataset_dict.json", {"splits": ["../private"]}),
        ("dataset_dict.json", {"splits": ["/etc"]}),
        ("dataset_dict.json", {"splits": "train"}),
    ],
)
def test_a_saved_dataset_that_names_files_outside_of_it_is_refused(
    dataset: Any, tmp_path: Path, file: str, content: dict[str, Any]
) -> None:
    folder = tmp_path / "saved"
    for name in ("saved", "private"):
        dataset.save_to_disk(tmp_path / name)
    (folder / file).write_text(json.dumps(content))
    assert (
        refusal(DataSource(path=folder))
        == "the data: the saved dataset names files outside of its folder: save it anew"
    )


def test_a_folder_as_the_hub_holds_it(dataset: Any, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    (folder / "data").mkdir(parents=True)
    dataset.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    dataset.select([1]).to_parquet(folder / "data" / "test-00000-of-00001.parquet")
    source = DataSource(path=folder)
    assert read_rows(source, find("sft")).rows == ROWS
    assert read_rows(DataSource(path=folder, split="test"), find("sft")).rows == ROWS[1:]
    assert "the data set has no split 'validation'; it has test, train" in refusal(
        source.model_copy(update={"split": "validation"})
    )
    before = data_digest(source)
    assert data_digest(source) == before
    dataset.select([0]).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    assert read_rows(source, find("sft")).rows == ROWS[:1], "rows of an edited folder"
    (folder / "data" / "README").write_text("x")
    assert data_digest(source) != before


# --- presets


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_source_that_survives_serialisation(name: str) -> None:
    at_hub, own = DataSource(preset=name), DataSource(preset=name, path=Path("mine.jsonl"))
    assert (at_hub.path, at_hub.hub) == (None, PRESETS[name]["hub"])
    assert (own.hub, own.split) == (None, "train")
    for source in (at_hub, own):
        assert DataSource.model_validate_json(source.model_dump_json()) == source
        assert source.needed_columns(find("sft")) == own.needed_columns(find("sft"))


def test_an_owners_settings_override_the_preset() -> None:
    source = DataSource(preset="alpaca", hub="yahma/alpaca-cleaned", input=None)
    assert (source.hub, source.prompt, source.input) == ("yahma/alpaca-cleaned", "instruction", None)
    assert DataSource(preset="ultrafeedback", split="test_prefs").split == "test_prefs"


def test_a_copy_may_lack_the_input_of_its_preset_and_no_other_column(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "Why?", "output": "Because."}\n')
    assert read_rows(DataSource(preset="alpaca", path=path), find("sft")).rows == [Row("Why?", "", "Because.")]
    assert "no row has the column 'context'" in refusal(DataSource(preset="alpaca", path=path, input="context"))


RECORD_OF = {
    "medical-flashcards": {"instruction": "Answer truthfully.", "input": "Why?", "output": "Because."},
    "math-instruct": {"instruction": "Why?", "output": "Because.", "source": "x"},
}


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if "completion" in preset])
def test_presets_read_the_columns_of_their_data_sets(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.jsonl"
    record = RECORD_OF.get(name, {"instruction": "Why?", "input": "", "output": "Because.", "text": "x"})
    path.write_text(json.dumps(record) + "\n" + json.dumps(record) + "\n")
    found = read_rows(DataSource(preset=name, path=path), find("sft"))
    assert set(found.rows) == {Row("Why?", "", "Because.")}
    assert len(found.rows) == (1 if name == "math-instruct" else 2)
