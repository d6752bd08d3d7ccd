"""Pools of folders: a folder and its files hold the same rows, in whatever way a source names them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.data import identity
from agent.data.identity import identity_of
from agent.data.source import DataSource
from agent.record.record import OwnerRecord

ROWS = '{"prompt": "q", "completion": "a"}\n'


def file_of(folder: Path, name: str = "rows.jsonl", text: str = ROWS) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def pool(record: OwnerRecord, source: DataSource) -> int:
    return record.bookings.pool_of(identity_of(source))


def test_a_folder_is_known_by_its_place(record: OwnerRecord, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    number = pool(record, DataSource(path=folder))
    file_of(folder)
    assert pool(record, DataSource(path=folder)) == pool(record, DataSource(path=link)) == number


def itself(path: Path) -> Path:
    return path


def a_copy(path: Path) -> Path:
    return Path(shutil.copy(path, path.parents[3] / "copy.jsonl"))


def a_link(path: Path) -> Path:
    link = path.parents[3] / "link.jsonl"
    link.symlink_to(path)
    return link


def its_folder(path: Path) -> Path:
    return path.parent


def a_copy_of_the_folder_with_more(path: Path) -> Path:
    folder = Path(shutil.copytree(path.parents[1], path.parents[3] / "copy"))
    file_of(folder, f"zzz{path.suffix}", "more")
    return folder


FORMS = [itself, a_copy, a_link, its_folder, a_copy_of_the_folder_with_more]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "test.jsonl.gz", "rows.txt"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_file_of_a_folder_is_of_its_pool(
    record: OwnerRecord, tmp_path: Path, form: Callable[[Path], Path], name: str, is_first: bool
) -> None:
    path = file_of(tmp_path / "data" / "all" / "part", name)
    folder, other = DataSource(path=tmp_path / "data" / "all"), DataSource(path=form(path))
    first, second = (folder, other) if is_first else (other, folder)
    assert pool(record, first) == pool(record, second)


def test_a_file_that_was_booked_before_it_changed_keeps_its_folder_in_its_pool(
    record: OwnerRecord, tmp_path: Path
) -> None:
    path = file_of(tmp_path / "data")
    number = pool(record, DataSource(path=path))
    path.write_text(ROWS * 3)
    assert pool(record, DataSource(path=tmp_path / "data")) == number


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "dataset_info.json", ".hidden.jsonl", "empty.jsonl"])
def test_what_holds_no_rows_joins_nothing(record: OwnerRecord, tmp_path: Path, name: str) -> None:
    for folder, row in (("one", "1"), ("two", "2")):
        file_of(tmp_path / folder, "rows.jsonl", f'{{"prompt": "{row}", "completion": "a"}}\n')
        file_of(tmp_path / folder, name, "" if name.startswith("empty") else "the same in both")
    one, two = (pool(record, DataSource(path=tmp_path / each)) for each in ("one", "two"))
    assert one != two


def test_a_saved_data_set_is_known_by_its_rows_and_not_by_what_lies_beside_them(
    record: OwnerRecord, tmp_path: Path
) -> None:
    for folder, content in (("one", "1"), ("two", "2"), ("three", "1")):
        file_of(tmp_path / folder, "dataset_dict.json", '{"splits": ["train"]}')
        file_of(tmp_path / folder, "train/state.json", "{}")
        file_of(tmp_path / folder, "train/data-00000-of-00001.arrow", content)
    one, two, three = (pool(record, DataSource(path=tmp_path / each)) for each in ("one", "two", "three"))
    assert one == three != two


def test_a_very_large_folder_has_keys_of_a_bounded_number_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "MAX_FILES", 2)
    for number in range(4):
        file_of(tmp_path, f"{number}.jsonl", ROWS * (number + 1))
    keys = identity_of(DataSource(path=tmp_path))
    assert [key for key in keys if key.startswith("path")] == [
        f"path {path}" for path in (tmp_path, tmp_path / "0.jsonl", tmp_path / "1.jsonl")
    ]
    assert len(keys) == 5
