"""Failures and notices on an owner's data: with names of files for the owner, with those of agent.toml for others."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.data.local_names import LocalName, public
from agent.data.own_template import OwnTemplate
from agent.data.reading import read_split
from agent.data.source import DataSource
from agent.errors import TaskFailed
from shared.kinds import find

GOOD = '{"prompt": "p", "completion": "c"}\n'
FILE = "hiv-Mueller"
PATH_LIKE = re.compile(r"(^|[\s'\"(:])(~|\.{0,2}[/\\]|[A-Za-z]:[/\\])\S")


def written(name: str, content: str | bytes) -> Callable[[Path], DataSource]:
    def write(folder: Path) -> DataSource:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return DataSource(path=path)

    return write


def in_a_folder(**files: str) -> Callable[[Path], DataSource]:
    def write(folder: Path) -> DataSource:
        for name, content in files.items():
            (folder / name.replace("__", "-Mueller.")).write_text(content)
        return DataSource(path=folder)

    return write


def held_out(folder: Path) -> DataSource:
    (folder / f"{FILE}.jsonl").write_text(GOOD)
    (folder / f"held-{FILE}.jsonl").write_text("{")
    return DataSource(path=folder / f"{FILE}.jsonl", held_out_path=folder / f"held-{FILE}.jsonl")


def device(folder: Path) -> DataSource:
    (folder / f"{FILE}.jsonl").symlink_to("/dev/null")
    return DataSource(path=folder / f"{FILE}.jsonl")


def saved(folder: Path) -> DataSource:
    (folder / "state.json").write_text("{")
    return DataSource(path=folder)


SOURCES: dict[str, Callable[[Path], DataSource]] = {
    "gone": lambda folder: DataSource(path=folder / f"{FILE}.jsonl"),
    "empty": written(f"{FILE}.jsonl", ""),
    "not JSON": written(f"{FILE}.jsonl", GOOD + "{"),
    "no object": written(f"{FILE}.jsonl", "[1]\n"),
    "no list": written(f"{FILE}.json", '{"rows": []}'),
    "no column": written(f"{FILE}.jsonl", '{"Mueller": 1}\n'),
    "a key twice": written(f"{FILE}.jsonl", '{"Mueller": 1, "Mueller": 2}\n'),
    "bytes": written(f"{FILE}.jsonl", b'{"prompt": "\xff"}'),
    "type": written(f"{FILE}.docx", "x"),
    "compressed": written(f"{FILE}.jsonl.gz", "x"),
    "parquet": written(f"{FILE}.parquet", "PAR1"),
    "cells": written(f"{FILE}.csv", "prompt,completion\na,b,c\n"),
    "header": written(f"{FILE}.csv", "Mueller,Mueller\na,b\n"),
    "quote": written(f"{FILE}.csv", 'prompt,completion\n"a,b\n'),
    "device": device,
    "saved": saved,
    "held out": held_out,
    "folder, nothing": in_a_folder(),
    "folder, types": in_a_folder(a__docx="x", b__jsonl=GOOD),
    "folder, row": in_a_folder(a__jsonl=GOOD, b__jsonl=GOOD + "{"),
    "folder, table": in_a_folder(a__jsonl=GOOD, b__csv="prompt,completion\na,b,c\n"),
    "folder, file": in_a_folder(a__jsonl=GOOD, b__json="{"),
    "folder, splits": in_a_folder(train__jsonl=GOOD, test__jsonl=GOOD, rest__jsonl=GOOD),
    "folder, split": lambda folder: in_a_folder(a__jsonl=GOOD)(folder).model_copy(update={"split": "few"}),
    "folder, card": in_a_folder(**{"README.md": "---\nconfigs: Mueller\n---\n", "a__jsonl": GOOD}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "oncology-7"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("source", SOURCES)
def test_a_failure_names_the_data_and_no_file(folder: Path, source: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        read_split(SOURCES[source](folder).named("notes"), find("sft"))
    message = caught.value.failure.message
    assert message.startswith("data.notes")
    assert not re.search(f"Mueller|oncology|{re.escape(str(folder))}", message)
    assert not PATH_LIKE.search(message)
    shown = str(caught.value)
    assert shown.startswith((FILE, f"held-{FILE}", "oncology-7"))
    rest = re.sub(r"^data\.notes(\.held_out_path)?: (file \d: )?", "", message)
    assert rest in shown


def test_the_second_of_several_files_is_called_by_its_number(folder: Path) -> None:
    with pytest.raises(TaskFailed) as caught:
        read_split(SOURCES["folder, row"](folder).named("notes"), find("sft"))
    assert caught.value.failure.message.startswith("data.notes: file 2: line 2 is not JSON")
    assert str(caught.value).startswith("oncology-7: b-Mueller.jsonl: line 2 is not JSON")


def test_the_held_out_file_has_the_name_of_its_setting(folder: Path) -> None:
    with pytest.raises(TaskFailed) as caught:
        read_split(SOURCES["held out"](folder).named("notes"), find("sft"))
    assert caught.value.failure.message.startswith("data.notes.held_out_path: line 1 is not JSON")


def test_notices_name_the_data_and_no_file(folder: Path) -> None:
    (folder / "a-Mueller.jsonl").write_text('{"prompt": "p", "completion": "c", "Mueller": 1}\n')
    (folder / "b-Mueller.jsonl").write_text("")
    (folder / "LICENSE.md").write_text("")
    notices = read_split(DataSource(path=folder, held_out=0).named("notes"), find("sft")).notices
    assert "oncology-7: b-Mueller.jsonl: the file has no rows" in [str(each) for each in notices.problems]
    assert "data.notes: file 2: the file has no rows" in notices.public
    assert not re.search("Mueller|oncology", " ".join(notices.public))


def test_a_template_that_is_gone_is_the_owners(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed) as caught:
        OwnTemplate.read(tmp_path / "own-Mueller.jinja")
    assert caught.value.failure.message == "the owner's template cannot be read (No such file or directory)"
    assert str(caught.value) == "the template own-Mueller.jinja cannot be read (No such file or directory)"


def test_a_name_has_a_public_form_and_a_plain_text_is_its_own() -> None:
    assert public(LocalName("a.jsonl", "data.notes")) == "data.notes"
    assert public("line 3") == "line 3"
    assert LocalName("a.jsonl", "x") == "a.jsonl"
