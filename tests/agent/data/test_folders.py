"""A folder of data files is read file by file, as each would be alone, and nothing of it is left out unseen."""

import csv
import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.data.checks.checking import collect, guess_kind
from agent.data.checks.notices import Occurrences
from agent.data.checks.report import DataReport
from agent.data.files.records import read_records
from agent.data.files.tables import data_digest
from agent.data.reading import read_rows, read_split
from agent.data.rows import Row
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.kinds import find

SFT = find("sft")
NAMES = "names of some files of the folder are those of a split, and others are not"


def line(name: str) -> str:
    return json.dumps({"prompt": name, "completion": "x"}) + "\n"


def fill(folder: Path, files: Mapping[str, str | bytes] | list[str]) -> Path:
    """Write files. Of a list of names, each has a row whose prompt is its name."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = files[name] if isinstance(files, Mapping) else content_of(name)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def content_of(name: str) -> str | bytes:
    content = f"prompt,completion\n{name},x\n" if ".csv" in name else line(name)
    return gzip.compress(content.encode()) if name.endswith(".gz") else content


def prompts(folder: Path, **settings: Any) -> list[str]:
    return [row.completions[0].prompt for row in read_rows(DataSource(path=folder, **settings), SFT).rows]


def report(folder: Path, **settings: Any) -> DataReport:
    source = DataSource(path=folder, held_out=0.0, **settings)
    return collect(source, SFT).report("notes", source, SFT)


def errors(folder: Path, **settings: Any) -> list[str]:
    return [str(each) for each in report(folder, **settings).errors]


def notices(folder: Path, **settings: Any) -> list[str]:
    return [str(each) for each in report(folder, **settings).notices]


# --- each file as it is read alone


def test_every_file_of_a_known_type_is_read_in_the_order_of_its_relative_name(tmp_path: Path) -> None:
    names = [
        "train.jsonl",
        "notes-2024.jsonl",
        "c.csv",
        "b/x.jsonl.gz",
        "b.csv",
        "B.jsonl",
        ".hidden.jsonl",
        ".git/a.csv",
    ]
    folder = fill(tmp_path / "rows", names)
    shown = sorted(name for name in names if not name.startswith("."))
    assert prompts(folder) == shown
    places = [located.place for located in read_rows(DataSource(path=folder), SFT).located]
    assert places == [f"{name}: line {2 if '.csv' in name else 1}" for name in shown]
    assert notices(folder) == []


@pytest.mark.parametrize("cell", ["NA", "null", "nan", "None", "007", "1e5", "2020-01-02 00:00:00", "TRUE", " x "])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
def test_a_value_is_what_it_is_in_the_file_read_alone(tmp_path: Path, name: str, cell: str) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    record = {"prompt": cell, "input": cell, "completion": cell, "more": "1"}
    with (folder / name).open("w", newline="") as file:
        if name.endswith("sv"):
            writer = csv.DictWriter(file, record, delimiter="," if name == "a.csv" else "\t")
            writer.writeheader()
            writer.writerow(record)
        else:
            json.dump([record] if name == "a.json" else record, file)
    rows = [read_rows(DataSource(path=path, input="input"), SFT).rows for path in (folder, folder / name)]
    assert rows == [[Row(cell, cell, cell)]] * 2


def test_parquet_and_text_beside_each_other_are_both_read(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = fill(tmp_path / "rows", ["b.jsonl"])
    table = pytest.importorskip("pyarrow").table({"prompt": ["a", "c"], "completion": ["x", "y"]})
    parquet.write_table(table, folder / "a.parquet")
    assert [place for place, _ in read_records(DataSource(path=folder), Occurrences())] == [
        "a.parquet: row 1",
        "a.parquet: row 2",
        "b.jsonl: line 1",
    ]


def test_settings_of_tables_hold_for_the_tables_of_a_folder(tmp_path: Path) -> None:
    folder = fill(tmp_path / "rows", {"a.csv": 'x;"q"1\n', "b.tsv": "y;q2\n", "c.jsonl": line("q3")})
    settings = {"columns": ["completion", "prompt"], "separator": ";", "quotes": False}
    assert prompts(folder, **settings) == ['"q"1', "q2", "q3"]
    source = DataSource(path=tmp_path / "gone", held_out_path=folder, **settings).held_out_source
    assert source is not None
    assert len(read_rows(source, SFT).rows) == 3


def test_settings_of_tables_for_a_file_without_a_type_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("q@a\n")
    assert prompts(tmp_path / "rows", separator="@") == ["q"]
    for settings in ({"columns": ["a"]}, {"header": True}, {"quotes": False}):
        assert errors(tmp_path / "rows", separator="@", **settings) == [
            "rows: header, columns and quotes are settings of a .csv or .tsv: remove them, or rename the file"
        ]


def test_text_with_a_separator_is_read_unless_the_separator_is_that_of_tables(tmp_path: Path) -> None:
    folder = fill(tmp_path / "rows", {"a.txt": "q1@x\n", "sub/b.txt": "q2@x\n", "README.txt": "a@b\n"})
    assert prompts(folder, separator="@") == ["q1", "q2"]
    assert notices(folder, separator="@") == ["rows: 1 file of the folder is not read: 'README.txt'"]
    fill(folder, {"c.csv": "prompt@completion\nq3@x\n"})
    (error,) = errors(folder, separator="@")
    assert error.startswith("rows: 2 files are of a type that is not read")


# --- errors


def test_every_error_of_every_file_is_reported_with_the_file_and_its_place(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "a.csv": "prompt,completion\nq,a\nq,a,SECRET\n",
        "b/open.csv": 'prompt,completion\nq,"SECRET\n',
        "b/list.json": '{"prompt": "SECRET"}',
        "b/lines.jsonl": f"{line('ok')}{{SECRET\n",
        "latin.csv": "prompt,completion\nq,é\n".encode("latin-1"),
        "z.jsonl.gz": b"SECRET",
    }
    found = report(fill(tmp_path / "rows", files))
    assert [str(each).split(";")[0] for each in found.errors] == [
        "rows: a.csv: line 3 has 3 cells, but the header has 2",
        "rows: b/lines.jsonl: line 2 is not JSON (Expecting property name enclosed in double quotes)",
        "rows: b/list.json: the file is one JSON object, not a list of them",
        "rows: b/open.csv: a quote opened on line 2 is never closed",
        "rows: latin.csv: the file is not UTF-8 text",
        "rows: z.jsonl.gz: the file cannot be decompressed",
    ]
    assert (found.train, found.records) == (2, 4)
    with pytest.raises(TaskFailed, match=r"^rows: a\.csv: line 3 has 3 cells, but the header has 2$"):
        read_split(DataSource(path=tmp_path / "rows"), SFT)


def test_errors_and_notices_of_files_whose_names_differ_in_numbers_name_each_file(tmp_path: Path) -> None:
    files = {f"part-{n}.csv": 'prompt,completion\nq,"SECRET\n' for n in range(3)}
    empty = {f"part-{n}.jsonl": "" for n in range(3)}
    found = report(fill(tmp_path / "rows", {**files, **empty, "z.jsonl": line("z")}))
    (error,), (notice,) = map(str, found.errors), map(str, found.notices)
    assert error == (
        "rows: part-0.csv: a quote opened on line 2 is never closed; if quotes are plain text here, set quotes = false"
        "; also part-1.csv, part-2.csv"
    )
    assert notice == "rows: part-0.jsonl: the file has no rows; also part-1.jsonl, part-2.jsonl"
    assert (found.records, found.n_errors) == (1, 3)


def test_a_table_of_a_folder_without_a_header_says_how_to_name_the_columns(tmp_path: Path) -> None:
    (error,) = errors(fill(tmp_path / "rows", {"a.csv": "q1,a1\nq2,a2\n"}))
    assert error == (
        "rows: a.csv: line 2 has no column 'prompt' (prompt); if the first line is a record, name the columns instead, "
        "such as columns = [\"prompt\", \"completion\"]; it has 'q1', 'a1'"
    )
    (error,) = errors(fill(tmp_path / "lines", {"a.jsonl": '{"q": "a"}\n'}))
    assert error == "lines: a.jsonl: line 1 has no column 'prompt' (prompt); it has 'q'"


def test_a_file_of_another_type_is_an_error_that_names_it_on_this_machine_only(tmp_path: Path) -> None:
    folder = fill(tmp_path / "rows", {"a.jsonl": line("a"), "SECRET.xlsx": "x", "sub/SECRET.zip": "x"})
    (folder / "gone.jsonl").symlink_to(tmp_path / "nothing")
    (folder / "linked").symlink_to(tmp_path)
    types = ".jsonl, .json, .csv, .tsv, .parquet"
    message = f"rows: 4 files are of a type that is not read; known are {types}; convert or move them"
    assert errors(folder) == [f"{message}: 'SECRET.xlsx', 'gone.jsonl', 'linked', 'sub/SECRET.zip'"]
    with pytest.raises(TaskFailed) as caught:
        read_rows(DataSource(path=folder), SFT)
    assert str(caught.value) == f"{message}; `fedloom agent check-data` shows the names"
    assert guess_kind(DataSource(path=folder)).name == "sft"


@pytest.mark.skipif(os.name == "nt", reason="names there are text")
def test_a_name_that_is_no_text_is_an_error_and_stops_neither_report_nor_digest(tmp_path: Path) -> None:
    folder = fill(tmp_path / "rows", ["a.jsonl", "b\n.jsonl"])
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.jsonl")).write_text(line("x"))
    (error,) = errors(folder)
    assert error.endswith(r"convert or move them: 'b\n.jsonl', '\udcff.jsonl'")
    assert data_digest(DataSource(path=folder))


def test_files_that_lie_beside_data_are_noticed(tmp_path: Path) -> None:
    beside = ["README", "LICENSE", "notes.md", "dataset_infos.json", "_SUCCESS", "sub/license.txt"]
    folder = fill(tmp_path / "rows", {"a.jsonl": line("a"), **dict.fromkeys(beside, "{}")})
    assert errors(folder) == []
    named = ", ".join(map(repr, sorted(beside)))
    assert notices(folder) == [f"rows: 6 files of the folder are not read: {named}"]
    assert read_rows(DataSource(path=folder), SFT).notices.public == ["the data: 6 files of the folder are not read"]


def test_an_empty_file_is_noticed_and_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    folder = fill(tmp_path / "rows", {"a.jsonl": line("a"), "b.jsonl": "", "c.csv": "prompt,completion\n"})
    assert notices(folder) == ["rows: b.jsonl: the file has no rows; also c.csv"]
    (tmp_path / "none").mkdir()
    assert errors(tmp_path / "none") == [
        "none: the folder has no data files; known are .jsonl, .json, .csv, .tsv, .parquet"
    ]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_subfolder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    folder = fill(tmp_path / "rows", ["a.jsonl", "b/c.jsonl"])
    (folder / "b").chmod(0)
    try:
        assert errors(folder) == ["rows: the folder cannot be read (Permission denied)"]
    finally:
        (folder / "b").chmod(0o700)


def test_the_digest_follows_every_file_that_is_read_and_no_hidden_one(tmp_path: Path) -> None:
    source = DataSource(path=fill(tmp_path / "rows", ["a.jsonl", "b/c.csv"]))
    before = data_digest(source)
    fill(tmp_path / "rows", {".DS_Store": "x", ".git/b.jsonl": line("x")})
    assert data_digest(source) == before
    fill(tmp_path / "rows", {"b/d.csv": "prompt,completion\nq,a\n"})
    assert data_digest(source) != before


# --- splits


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.jsonl", "test.jsonl"], {"train": [0], "test": [1]}),
        (["train/x.jsonl", "test/x.jsonl", "valid/x.csv"], {"train": [0], "test": [1], "validation": [2]}),
        (["train/dev-notes.jsonl", "train/plan.csv", "eval/x.csv"], {"train": [0, 1], "test": [2]}),
        (["rows_train.jsonl", "rows_dev.csv.gz"], {"train": [0], "validation": [1]}),
        (["rows.train.jsonl", "rows.test.jsonl"], {"train": [0], "test": [1]}),
        (
            ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/test-00000-of-00001.jsonl"],
            {"train": [0, 1], "test": [2]},
        ),
        (
            ["data/train_prefs-00000-of-00001-0123abcd.jsonl", "data/test_prefs-00000-of-00001.jsonl"],
            {"train_prefs": [0], "test_prefs": [1]},
        ),
        (["part-00000-of-00002.jsonl", "part-00001-of-00002.jsonl"], {"train": [0, 1]}),
        (["train.jsonl", "notes-2024.jsonl", "contest.csv", "latest/trains.csv"], {"train": [0, 1, 2, 3]}),
        (["evaluation.jsonl"], {"test": [0]}),
    ],
)
def test_a_split_is_named_by_files_or_subfolders(
    tmp_path: Path, names: list[str], splits: dict[str, list[int]]
) -> None:
    folder = fill(tmp_path / "rows", names)
    for split, numbers in splits.items():
        expected = sorted(names[number] for number in numbers)
        assert sorted(prompts(folder, split=split)) == expected
        others = sorted(set(names) - set(expected))
        counted = "1 file of the folder is" if len(others) == 1 else f"{len(others)} files of the folder are"
        notice = f"rows: {counted} not read, as the split is {split!r}: {', '.join(map(repr, others))}"
        assert notices(folder, split=split) == ([notice] if others else [])
    (error,) = errors(folder, split="gone")
    assert error.startswith("rows: the data set has no split 'gone'; it has ")
    assert set(error.rpartition("it has ")[2].split(", ")) == set(splits)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["notes-dev.jsonl", "notes.jsonl"], NAMES),
        (["train.jsonl", "test.jsonl", "c.csv"], NAMES),
        (["blood-test/a.jsonl", "visits/b.jsonl"], NAMES),
        (["train_test.jsonl"], "the name of a file of the folder names several splits"),
        (["test/train.jsonl", "train/a.jsonl"], "the name of a file of the folder names several splits"),
    ],
)
def test_names_that_leave_the_split_open_are_refused_with_what_to_do(
    tmp_path: Path, names: list[str], message: str
) -> None:
    folder = fill(tmp_path / "rows", names)
    (error,) = errors(folder)
    remedy = "put the files of each split into a subfolder of its name, such as train or test"
    assert error.startswith(f"rows: the {message.removeprefix('the ')}; {remedy}: '")
    moved = fill(tmp_path / "moved", {f"train/{n}.jsonl": line(name) for n, name in enumerate(names)})
    assert prompts(moved) == names


def card(configs: str) -> str:
    return f"---\nlicense: mit\n{configs}---\n# Rows\n"


def test_the_card_of_a_data_set_says_which_files_a_split_has(tmp_path: Path) -> None:
    files = {name: line(name) for name in ("data/a.jsonl", "data/b.jsonl", "more/c.jsonl", "d.jsonl")}
    configs = (
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/*\n"
        "  - split: test\n    path: ['**/c.jsonl', '**/d.jsonl']\n"
    )
    folder = fill(tmp_path / "rows", {**files, "README.md": card(configs)})
    assert prompts(folder) == ["data/a.jsonl", "data/b.jsonl"]
    assert prompts(folder, split="test") == ["d.jsonl", "more/c.jsonl"]
    assert notices(folder)[-1] == (
        "rows: 2 files of the folder are not read, as the split is 'train': 'd.jsonl', 'more/c.jsonl'"
    )
    fill(folder, {"README.md": card("configs:\n- config_name: x\n  data_files: d.jsonl\n").replace("\n", "\r\n")})
    assert prompts(folder) == ["d.jsonl"]
    for head in (card(""), "# Rows\n---\nconfigs: [1, 2]\n---\n", card("configs: []\n")):
        fill(folder, {"README.md": head})
        assert len(prompts(folder)) == 4


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ("configs:\n- config_name: a\n- config_name: b\n", "has several configurations"),
        ("configs:\n- config_name: a\n  data_dir: sub\n", "names its files in a way that is not read"),
        ("configs:\n- config_name: a\n  data_files:\n  - 3\n", "names its files in a way that is not read"),
        ("configs: [\n", "names its files in a way that is not read"),
        ("configs: 3\n", "names its files in a way that is not read"),
    ],
)
def test_a_card_that_cannot_be_followed_is_refused(tmp_path: Path, configs: str, message: str) -> None:
    folder = fill(tmp_path / "rows", {"a.jsonl": line("a"), "README.md": card(configs)})
    (error,) = errors(folder)
    assert error.startswith(f"rows: the card of the data set (README.md) {message}: give the path of a file, or of a f")
