"""One rule for the files of all tasks: what is missing, broken off, edited, re-ordered or of another split."""

import gzip
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedloom.evaluation.tasks.base import BadData, DataFile, DataMissing, Items
from fedloom.evaluation.tasks.registry import TASKS
from tests.support.published import finance
from tests.support.published.every import write_for
from tests.support.published.files import write

SECRET = "fever of the heron"
TEXTS = ("perplexity/texts.txt",)
"""Where a text breaks off, nobody can tell."""

NAMES = sorted({tuple(file.path for file in make().files): name for name, make in reversed(TASKS.items())}.values())
"""One task for each set of files: variants read the same ones by the same code."""


def load(name: str, data: Path) -> Items:
    return TASKS[name]().load(data)


def sample(name: str, data: Path) -> tuple[Path, list[DataFile]]:
    """The folder of a task's files, and those that are there."""
    files = list(TASKS[name]().files)
    write_for([file.path for file in files], data)
    return data, [file for file in files if (data / file.path).is_file()]


def some(files: list[DataFile]) -> list[DataFile]:
    """One file of each folder and kind: MMLU has 114 alike."""
    return list({(Path(file.path).parent, Path(file.path).suffix): file for file in files}.values())


@pytest.mark.parametrize("name", NAMES)
def test_made_up_files_are_read_and_called_a_slice(name: str, tmp_path: Path) -> None:
    data, files = sample(name, tmp_path)
    assert files, "there is a writer for each task"
    found = load(name, data)
    assert set(found.digests) == {file.path for file in files if not file.instead_of}
    assert found.n_published == (TASKS[name]().n_published or len(found.items))
    if found.n_published > len(found.items):
        assert f"a slice: {len(found.items):,} of {found.n_published:,} items" in found.notes
    else:
        assert all(file.licence == "your own" for file in files), "nobody publishes it"


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_said_in_one_wording(name: str, tmp_path: Path) -> None:
    data, files = sample(name, tmp_path)
    for file in some(files):
        (data / file.path).rename(data / "elsewhere")
        with pytest.raises(DataMissing) as caught:
            load(name, data)
        assert str(caught.value).startswith(f"put {file.path} into {data}: {file.where}")
        (data / "elsewhere").rename(data / file.path)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_breaks_off_is_refused_or_called_a_slice(name: str, tmp_path: Path) -> None:
    data, files = sample(name, tmp_path)
    for file in some(files):
        if file.path in TEXTS:
            continue
        whole = (data / file.path).read_bytes()
        for end in (0, 1, len(whole) // 3, len(whole) // 2, len(whole) * 2 // 3 + 1):
            (data / file.path).write_bytes(whole[:end])
            try:
                found = load(name, data)
            except BadData as error:
                assert_named(error, file)
            else:
                assert file.licence == "your own" or any(note.startswith("a slice: ") for note in found.notes)
                assert found.n_published > len(found.items) or whole[:end].endswith(b"\n"), "it ends with a row"
        (data / file.path).write_bytes(whole)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_such_file_is_refused(name: str, tmp_path: Path) -> None:
    data, files = sample(name, tmp_path)
    broken = [b"\xff\xfe\x00", b"", b"null", b"7", b'"x"', b"[[1]]", b'{"x": [1]}', b"PAR1", b"\x1f\x8b", b"[" * 10**5]
    broken += [json.dumps([{SECRET: SECRET}]).encode(), f'"{SECRET}'.encode(), b'{"a":"\\ud800"}\n']
    for file in some(files):
        whole = (data / file.path).read_bytes()
        for raw in broken:
            if file.path in TEXTS and raw not in (b"\xff\xfe\x00", b"", b"\x1f\x8b"):
                continue
            write(data / file.path, raw)
            with pytest.raises(BadData) as caught:
                load(name, data)
            assert_named(caught.value, file)
        (data / file.path).write_bytes(whole)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_at_all_is_said(name: str, tmp_path: Path) -> None:
    data, files = sample(name, tmp_path)
    for file in some(files):
        path = data / file.path
        path.rename(data / "elsewhere")
        path.mkdir()
        with pytest.raises(BadData, match=f"{file.path} is a folder, and not a file"):
            load(name, data)
        path.rmdir()
        path.symlink_to(data / "nowhere")
        with pytest.raises(BadData, match=f"{file.path} is a link to a file that is not there"):
            load(name, data)
        path.unlink()
        path.symlink_to(data / "elsewhere")
        assert load(name, data).items, "a link to a file is as good"
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(BadData, match=f"{file.path} is not a regular file"):
            load(name, data)
        path.unlink()
        (data / "elsewhere").rename(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_may_not_be_read_is_said(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, files = sample(name, tmp_path)
    read = Path.read_bytes
    for file in some(files):

        def refuse(path: Path, refused: Path = data / file.path) -> bytes:
            if path == refused:
                raise PermissionError(13, "Permission denied")
            return read(path)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", refuse)
            with pytest.raises(BadData, match=f"{file.path} cannot be read: Permission denied"):
                load(name, data)


@pytest.mark.parametrize("name", NAMES)
def test_another_order_is_said_or_gives_the_same_items(name: str, tmp_path: Path) -> None:
    data, files = sample(name, tmp_path)
    before = {item.id: item.content for item in load(name, data).items}
    for file in files:
        if (turned := reordered(data / file.path)) is not None:
            write(data / file.path, turned)
    found = load(name, data)
    is_same = {item.id: item.content for item in found.items} == before
    is_own = all(file.licence == "your own" for file in files)
    assert is_same or is_own or any(note.startswith("a slice: ") for note in found.notes)


KNOWN = [name for name in NAMES if any(file.sha256 for file in TASKS[name]().files)]


@pytest.mark.parametrize("name", KNOWN)
def test_a_file_that_is_not_the_published_one_is_said(name: str, tmp_path: Path) -> None:
    data, files = sample(name, tmp_path)
    found = load(name, data)
    for file in files:
        if file.sha256 and file.n_rows in (None, 5):
            note = f"the file {file.path} is not the published one: another edition, edited or re-ordered"
            assert note in found.notes
        elif file.sha256:
            assert f"a slice: {len(found.items):,} of {found.n_published:,} items" in found.notes


def test_a_whole_file_of_another_edition_is_said(tmp_path: Path) -> None:
    rows = [{"intent": f"sum {n}", "rewritten_intent": None, "snippet": "sum(x)"} for n in range(500)]
    write(tmp_path / "conala/conala-test.json", rows)
    said = ["the file conala/conala-test.json is not the published one: another edition, edited or re-ordered"]
    assert load("conala", tmp_path).notes == said
    path = (tmp_path / "conala/conala-test.json").rename(tmp_path / "conala/conala-test.jsonl")
    assert load("conala", tmp_path).notes == [f"conala/conala-test.json was read from conala/{path.name}"]


@pytest.mark.parametrize("name", ["humaneval", "mbpp", "medmcqa", "drop"])
def test_an_item_that_is_there_twice_is_refused(name: str, tmp_path: Path) -> None:
    data, (file, *_) = sample(name, tmp_path)
    path = data / file.path
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if name == "drop":
        passages = json.loads(raw)
        write(path, {**passages, "other": passages["history_1"]})
    else:
        write(path, raw + raw)
    with pytest.raises(BadData, match=rf"^{file.path} has .* more than once$"):
        load(name, data)


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    data, files = sample("pubmedqa", tmp_path)
    truth = data / files[1].path
    truth.write_text(truth.read_text().replace("{", '{"9000": "yes", ', 1))
    with pytest.raises(BadData, match=f"{files[1].path}: one object has a key more than once"):
        load("pubmedqa", data)


def test_more_rows_than_were_published_are_of_another_split(tmp_path: Path) -> None:
    for name, write_more, n in [("tfns", finance.tfns, 2389), ("fpb", finance.fpb, 4847)]:
        (file,) = TASKS[name]().files
        with pytest.raises(BadData, match=f"{file.path} has {n:,} rows, and .* {n - 1:,}: is it another split"):
            load(name, write_more(tmp_path, n))


def test_alternatives_are_said_together(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"^put crass/CRASS.*csv into .*; or crass/crass_ai_task.json: from BIG"):
        load("crass", tmp_path)
    with pytest.raises(DataMissing, match=r"^put fiqa_sa_csv/test.csv into .*; or fiqa_sa/test.jsonl: data/fiqasa"):
        load("fiqa_labelled", tmp_path)


def assert_named(error: BadData, file: DataFile) -> None:
    assert Path(file.path).name in str(error)
    assert SECRET not in str(error)
    assert "\n" not in str(error)


def reordered(path: Path) -> Any:
    """The rows of a file in another order; None for a layout whose rows have no order."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if path.suffix in (".txt", ".parquet"):
        return None
    lines = list(lines_of(raw))
    if len(lines) > 1:
        head, rest = (lines[:1], lines[1:]) if path.suffix == ".csv" and "mmlu" not in str(path) else ([], lines)
        random.Random(1).shuffle(rest)
        return b"".join([*head, *rest])
    content = json.loads(raw)
    if isinstance(content, list):
        return content[::-1]
    return dict(reversed(content.items()))


def lines_of(raw: bytes) -> Iterator[bytes]:
    yield from raw.splitlines(keepends=True)
