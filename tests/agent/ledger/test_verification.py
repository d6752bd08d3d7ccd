"""What was cut, edited, moved or repeated is named, wherever it is."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.ledger.files import LedgerFiles, entries
from agent.ledger.ledger import Ledger
from agent.ledger.verification import Anchor, verify
from tests.agent.ledger.making import a_request, filled, noted
from tests.support.suite.seeds import seed_of_today

N = 40
Lines = list[bytes]


def rewritten(files: LedgerFiles, change: Callable[[Lines], Lines]) -> None:
    """Change the lines of all files, each line in the file where it was or that of its neighbour."""
    sizes = [len(path.read_bytes().splitlines()) for path in files.all()]
    lines = change([line for _, _, line in files.lines()])
    for number, path in enumerate(files.all()):
        start = sum(sizes[:number])
        end = start + sizes[number] if number < len(sizes) - 1 else None
        path.write_bytes(b"".join(lines[start:end]))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return filled(tmp_path / "ledger", N)


def places() -> list[int]:
    """Numbers of entries: the first ones, the last ones, and some between."""
    return [2, 3, N - 2, N - 1, *random.Random(seed_of_today()).sample(range(4, N - 2), 3)]


@pytest.mark.parametrize("n", places())
def test_an_entry_that_was_cut_is_named(ledger: Ledger, n: int) -> None:
    rewritten(ledger.files, lambda lines: lines[: n - 1] + lines[n:])
    found = verify(ledger.files)
    assert any(f"entry {n} is missing" in problem for problem in found.problems), found.problems


@pytest.mark.parametrize("n", [1, *places(), N])
@pytest.mark.parametrize("what", ["loss", "time", "path"])
def test_an_entry_that_was_edited_is_named(ledger: Ledger, n: int, what: str) -> None:
    def change(lines: Lines) -> Lines:
        line = lines[n - 1]
        edited = {
            "loss": line.replace(b'"train_loss_mean":', b'"train_loss_mean":1'),
            "time": line.replace(b'"at":"20', b'"at":"19'),
            "path": line.replace(b"/v1/leases/", b"/v1/other/"),
        }[what]
        assert edited != line
        return [*lines[: n - 1], edited, *lines[n:]]

    rewritten(ledger.files, change)
    assert [f"entry {n} was edited" in problem for problem in verify(ledger.files).problems] == [True]


@pytest.mark.parametrize("n", places())
def test_entries_that_changed_places_are_named(ledger: Ledger, n: int) -> None:
    rewritten(ledger.files, lambda lines: [*lines[: n - 1], lines[n], lines[n - 1], *lines[n + 1 :]])
    problems = verify(ledger.files).problems
    assert any(f"entry {n} stands after entry {n + 1}" in problem for problem in problems), problems


@pytest.mark.parametrize("n", [1, *places()])
def test_an_entry_that_came_again_is_named(ledger: Ledger, n: int) -> None:
    rewritten(ledger.files, lambda lines: [*lines, lines[n - 1]])
    assert [f"entry {n} stands again after entry {N}" in each for each in verify(ledger.files).problems] == [True]


@pytest.mark.parametrize("n_left", [0, 1, N - 1])
def test_entries_that_are_missing_at_the_end_are_named(ledger: Ledger, n_left: int) -> None:
    rewritten(ledger.files, lambda lines: lines[:n_left])
    problems = verify(ledger.files).problems
    assert f"it ends with entry {n_left}, and had {N}: the last ones are missing" in problems, problems


def test_a_file_that_is_missing_between_others_is_named(ledger: Ledger) -> None:
    missing = ledger.files.all()[1]
    first = int(missing.stem)
    missing.unlink()
    assert any(f"entry {first} to " in problem for problem in verify(ledger.files).problems)


def test_a_line_that_is_no_entry_is_named(ledger: Ledger) -> None:
    rewritten(ledger.files, lambda lines: [*lines[:2], b"hello\n", *lines[3:]])
    [first, *_] = verify(ledger.files).problems
    assert first == "000000000001.jsonl, line 3 is not an entry"


def test_an_older_copy_is_told_by_what_the_record_of_work_names(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "ledger", 10)
    shutil.copytree(ledger.files.folder, tmp_path / "copy")
    noted(ledger, [a_request(11), a_request(12)])
    anchors = [Anchor(n, sha256, f"booking {n}") for n, sha256 in _digests(ledger.files) if n in (4, 12)]
    assert verify(ledger.files, anchors).is_whole
    copied = LedgerFiles(tmp_path / "copy")
    assert verify(copied).is_whole, "the copy alone does not tell"
    [problem] = verify(copied, anchors).problems
    assert problem == "it ends with entry 10, and booking 12 names entry 12: it is an older copy"


def test_a_ledger_that_was_written_anew_is_told_by_the_record_of_work(tmp_path: Path) -> None:
    before = filled(tmp_path / "ledger", 10)
    anchors = [Anchor(n, sha256, f"booking {n}") for n, sha256 in _digests(before.files) if n == 4]
    forged = filled(tmp_path / "forged", 10)
    assert verify(forged.files).is_whole
    [problem] = verify(forged.files, anchors).problems
    assert problem.startswith("entry 4 is not the one that booking 4 names")


def _digests(files: LedgerFiles) -> list[tuple[int, str]]:
    return [(entry.n, sha256) for entry, sha256 in entries(files)]


def test_other_files_of_the_folder_are_no_part_of_it(ledger: Ledger) -> None:
    for name in ("²³.jsonl", "notes.jsonl", "000000000001.jsonl.bak", "1.jsonl"):
        (ledger.files.folder / name).write_bytes(b"\xff\n")
    assert verify(ledger.files).is_whole


def test_an_entry_that_is_being_written_disturbs_no_reader(ledger: Ledger) -> None:
    with ledger.files.all()[-1].open("ab") as file:
        file.write(b'{"n":41,"at":')
    assert [entry.n for entry, _ in entries(ledger.files)] == list(range(1, N + 1))
    assert verify(ledger.files).is_whole
