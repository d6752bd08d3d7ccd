"""Pools: sources that hold the same rows share their bookings, whatever they are called."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.data.identity import identity_of
from agent.data.source import DataSource
from agent.record.bookings import Work, WorkKind
from agent.record.record import OwnerRecord
from tests.support.ledgers import NO_LEDGER

ROWS = '{"prompt": "q", "completion": "a"}\n'


def file_of(folder: Path, name: str = "rows.jsonl", text: str = ROWS) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def pool(record: OwnerRecord, source: DataSource) -> int:
    return record.bookings.pool_of(identity_of(source))


def itself(path: Path) -> DataSource:
    return DataSource(path=path)


def with_other_settings(path: Path) -> DataSource:
    return DataSource(path=path, prompt="completion", completion="prompt", held_out=0.5, kinds=["dpo"])


def by_another_path(path: Path) -> DataSource:
    return DataSource(path=path.parent / "." / ".." / path.parent.name / path.name)


def a_copy(path: Path) -> DataSource:
    return DataSource(path=Path(shutil.copy(path, path.parent / "copy.jsonl")))


def a_link(path: Path) -> DataSource:
    link = path.parent / "link.jsonl"
    link.symlink_to(path)
    return DataSource(path=link)


def a_hard_link(path: Path) -> DataSource:
    link = path.parent / "hard.jsonl"
    link.hardlink_to(path)
    return DataSource(path=link)


def through_a_linked_folder(path: Path) -> DataSource:
    folder = path.parent / "linked"
    folder.symlink_to(path.parent, target_is_directory=True)
    return DataSource(path=folder / path.name)


def as_its_held_out_rows(path: Path) -> DataSource:
    return DataSource(path=file_of(path.parent, "more.jsonl", "{}\n"), held_out_path=path)


SAME = [itself, with_other_settings, by_another_path, a_copy, a_link, a_hard_link, through_a_linked_folder]


@pytest.mark.parametrize("other", [*SAME, as_its_held_out_rows])
def test_the_same_rows_are_one_pool(record: OwnerRecord, tmp_path: Path, other: Callable[[Path], DataSource]) -> None:
    path = file_of(tmp_path)
    assert pool(record, DataSource(path=path)) == pool(record, other(path))


def test_other_rows_are_another_pool(record: OwnerRecord, tmp_path: Path) -> None:
    sources = [DataSource(path=file_of(tmp_path, f"{number}.jsonl", ROWS * number)) for number in (1, 2, 3)]
    sources += [DataSource(hub="a/b"), DataSource(hub="a/c"), DataSource(hub="b/a")]
    assert len({pool(record, source) for source in sources}) == len(sources)


def test_empty_files_have_nothing_in_common(record: OwnerRecord, tmp_path: Path) -> None:
    first, second = (DataSource(path=file_of(tmp_path, name, "")) for name in ("a.jsonl", "b.jsonl"))
    assert pool(record, first) != pool(record, second)


def test_a_file_that_changes_stays_what_it_was(record: OwnerRecord, tmp_path: Path) -> None:
    """And its copies too, those from before and those from after."""
    path = file_of(tmp_path)
    before = a_copy(path)
    number = pool(record, DataSource(path=path))
    path.write_text(ROWS * 2)
    assert pool(record, DataSource(path=path)) == number
    after = DataSource(path=Path(shutil.copy(path, tmp_path / "after.jsonl")))
    assert pool(record, before) == pool(record, after) == number


@pytest.mark.parametrize(
    "other",
    [
        {"revision": "main"},
        {"split": "test"},
        {"split": "train[:50%]"},
        {"split": "train+test", "revision": "a" * 40},
        {"hub": "A/B"},
        {"hub": "a/B", "split": "train[10:]"},
        {"preset": "alpaca"},
    ],
)
def test_a_data_set_of_the_hub_is_one_however_it_is_asked_for(record: OwnerRecord, other: dict[str, str]) -> None:
    assert pool(record, DataSource(hub="a/b")) == pool(record, DataSource(**{"hub": "a/b", **other}))


def test_the_data_set_of_a_preset_is_that_of_the_hub(record: OwnerRecord) -> None:
    assert pool(record, DataSource(preset="alpaca")) == pool(record, DataSource(hub="Tatsu-Lab/Alpaca", split="x"))


def test_held_out_rows_of_a_data_set_of_the_hub_are_its_rows_too(record: OwnerRecord, tmp_path: Path) -> None:
    path = file_of(tmp_path)
    assert pool(record, DataSource(hub="a/b", held_out_path=path)) == pool(record, DataSource(path=path))
    assert pool(record, DataSource(hub="A/b")) == pool(record, DataSource(path=path))


def test_a_folder_that_is_read_instead_of_the_hub_is_known_by_its_place(
    record: OwnerRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert pool(record, DataSource(hub="a/b")) == pool(record, DataSource(path=tmp_path / "a" / "b"))


def test_a_file_of_a_folder_is_the_folders(record: OwnerRecord, tmp_path: Path) -> None:
    """Whether it is named alone, in a subfolder, or was copied out; what lies beside the rows counts as none."""
    folder = tmp_path / "rows"
    (folder / "may").mkdir(parents=True)
    april, may = file_of(folder, "april.jsonl"), file_of(folder / "may", "days.csv", "prompt,completion\nq,a\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in (folder, elsewhere):
        for name in ("README.txt", "dataset_info.json", "LICENSE"):
            file_of(path, name, "{}")
    number = pool(record, DataSource(path=folder))
    copy = Path(shutil.copy(april, tmp_path / "copy.jsonl"))
    assert {pool(record, DataSource(path=path)) for path in (april, may, folder / "may", copy)} == {number}
    assert pool(record, DataSource(path=elsewhere)) != number


def test_a_folder_of_very_many_files_has_a_pool(record: OwnerRecord) -> None:
    keys = [f"path /rows/{number}.jsonl" for number in range(40_000)]
    assert record.bookings.pool_of(keys) == record.bookings.pool_of(keys[-1:]) == 1
    assert record.bookings.pools_known(keys) == [1]


def training(campaign: str, round_number: int = 1) -> Work:
    return Work(campaign, WorkKind.TRAIN, round_number, 0, "s", "a", steps=5, n_rows=10)


def test_pools_that_turn_out_to_be_one_are_joined_with_all_that_was_booked(record: OwnerRecord, tmp_path: Path) -> None:
    first, second, third = (
        DataSource(path=file_of(tmp_path, f"{name}.jsonl", name)) for name in ("first", "second", "third")
    )
    numbers = [pool(record, source) for source in (first, second, third)]
    for number, campaign in zip(numbers, ("c1", "c2", "c3"), strict=True):
        record.bookings.book(number, "a", training(campaign), NO_LEDGER)
    joined = DataSource(path=first.path, held_out_path=second.path)
    assert pool(record, joined) == numbers[0]
    assert [pool(record, source) for source in (first, second, third)] == [numbers[0], numbers[0], numbers[2]]
    assert [record.bookings.of_pool(number).n_trainings for number in numbers] == [2, 0, 1]
    later = DataSource(path=file_of(tmp_path, "fourth.jsonl", "fourth"))
    assert pool(record, later) not in (numbers[0], numbers[2])
