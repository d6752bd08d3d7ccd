"""Rows of docs/benchmarks.md: what a script writes is what the page shows."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Script = Callable[[str], Any]


def test_rows_are_read_as_they_were_written(script: Script, tmp_path: Path) -> None:
    rows = script("rows")
    file = tmp_path / "rows.json"
    parser = argparse.ArgumentParser()
    rows.add_option(parser)
    measured = [
        rows.Row("round of 1 KB, 2 agents", 0.052, "s", goal=rows.at_most(0.06)),
        rows.Row("upload", 1234.5, "MB/s", rows.Ratio(0.64, "a bare handler"), rows.at_least(0.7, "ratio"), "HTTP/1.1"),
        rows.Row("wire of int8", 3.9, "×"),
    ]
    rows.write(parser.parse_args(["--json", str(file)]).json, measured)
    assert rows.read(file) == measured
    assert rows.table(rows.read(file)).splitlines()[2:] == [
        "| round of 1 KB, 2 agents | 0.052 s |  | ≤ 0.06 s |",
        "| upload (HTTP/1.1) | 1,234 MB/s | 64% of a bare handler | **≥ 70%: missed** |",
        "| wire of int8 | 3.9 × |  |  |",
    ]


@pytest.mark.parametrize(
    ("goal", "reached", "is_met"),
    [("at_most", 1.7, True), ("at_most", 1.71, False), ("at_least", 1.7, True), ("at_least", 1.69, False)],
)
def test_a_limit_itself_is_within_the_goal(script: Script, goal: str, reached: float, is_met: bool) -> None:
    rows = script("rows")
    row = rows.Row("round", 1, "s", rows.Ratio(reached, "a bare server"), getattr(rows, goal)(1.7, "ratio"))
    assert ("missed" not in rows.table([row])) is is_met


def test_a_goal_for_a_ratio_needs_one(script: Script) -> None:
    rows = script("rows")
    with pytest.raises(ValueError, match="no ratio"):
        rows.table([rows.Row("round", 1, "s", goal=rows.at_most(1.7, "ratio"))])


def test_only_the_table_of_a_script_is_replaced(script: Script) -> None:
    report = script("report")
    page = "words\n<!-- a: written by report.py -->\nold\n<!-- a: end -->\nmore\n<!-- b: written by report.py -->\n"
    assert report.replaced(page, "a", r"new \1") == page.replace("old", r"new \1")
    with pytest.raises(ValueError, match="b: end"):
        report.replaced(page, "b", "new")


def test_the_page_has_a_place_for_each_script(script: Script) -> None:
    report = script("report")
    page = report.PAGE.read_text(encoding="utf-8")
    for name in report.SCRIPTS:
        assert (report.ROOT / "benchmarks" / f"{name}.py").is_file()
        report.replaced(page, name, "")
    assert set(re.findall(r"<!-- (\w+): written by report.py -->", page)) == set(report.SCRIPTS)


def test_the_conditions_name_machine_versions_commit_and_what_ran_beside(script: Script) -> None:
    conditions = script("conditions")
    words = conditions.in_words(conditions.Beside())
    assert re.match(r"\d{4}-\d\d-\d\d, commit `[0-9a-f]{7,}\+?`, .+ cores, \d+ GB, Linux [\d.]+; Python 3\.", words)
    assert re.search(r"(an otherwise idle machine|other work used \d+% of the cores meanwhile)\.$", words)
