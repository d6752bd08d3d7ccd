"""The threat model names tests and modules that exist, and leaves no cell of a table empty."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from tests.unit.pages.test_pages import named_in

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")


def tables() -> Iterator[list[list[str]]]:
    """The tables of the page: rows of cells, the header first, without the line below it."""
    table: list[list[str]] = []
    for line in [*PAGE.splitlines(), ""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")])
        elif table:
            header, ruler, *rows = table
            assert set("".join(ruler)) == {"-"}, ruler
            yield [header, *rows]
            table = []


def threats() -> Iterator[dict[str, str]]:
    """The rows of all tables of threats, by the titles of their columns."""
    for header, *rows in tables():
        if header[0] == "threat":
            yield from (dict(zip(header, row, strict=True)) for row in rows)


def test_the_tests_that_it_names_exist() -> None:
    named = named_in(PAGE)
    assert len(named) > 80
    for file, test in named:
        content = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert not test or re.search(rf"^(?:async )?def {test}\(", content, re.MULTILINE), f"{file}::{test}"


def test_the_modules_that_it_names_exist() -> None:
    named = {name for name in re.findall(r"`((?:\w+/)+\w+\.py)`", PAGE) if "/test_" not in name}
    assert len(named) > 40
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_no_cell_of_a_table_is_empty() -> None:
    found = [*tables()]
    assert len(found) > 7
    for header, *rows in found:
        assert rows, header
        for row in [header, *rows]:
            assert len(row) == len(header), row
            assert all(row), row


def test_each_protection_has_a_module_and_a_test_or_the_page_says_that_it_is_none() -> None:
    rows = [*threats()]
    assert len(rows) > 30
    for row in rows:
        if row["shown by"] == "none":
            assert "**" in row["what remains"], row["threat"]
        elif row["shown by"] != "as above":
            assert named_in(row["shown by"]), row["threat"]
            assert re.search(r"`(?:\w+/)+\w+\.py`", row["enforced in"]), row["threat"]


def test_its_sections_are_numbered_in_order() -> None:
    numbers = [int(number) for number in re.findall(r"^## (\d)\. ", PAGE, re.MULTILINE)]
    assert numbers[0] == 1
    assert all(after == before + 1 for before, after in pairwise(numbers))
