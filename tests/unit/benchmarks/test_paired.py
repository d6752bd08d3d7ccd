"""Paired differences between the rows of a comparison, from items that are made up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TRUE = ["neutral"] * 12 + ["positive"] * 6 + ["negative"] * 6


def a_row(runs: Path, name: str, labels: list[str]) -> None:
    folder = runs / name / "evaluation/items/fpb"
    folder.mkdir(parents=True)
    items = [
        {
            "item": str(number),
            "group": "",
            "values": {"acc": float(true == label), "unparsed": 0.0},
            "label": [true, label],
            "texts": None,
            "flags": ["cut"],
            "problem": "",
            "prompt_sha256": "",
            "reply": label,
        }
        for number, (true, label) in enumerate(zip(TRUE, labels, strict=True))
    ]
    (folder / f"{name.rpartition('-lr')[0]}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))


def test_rows_are_compared_on_the_same_items_and_owners_are_named(
    script: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs/seed-3"
    a_row(runs, "fedavg-lr0.001", TRUE)
    a_row(runs, "client-00-alone-lr0.001", ["neutral"] * 24)
    a_row(runs, "client-01-alone-lr0.0003", [*TRUE[:-1], "neutral"])
    (runs / "scaffold-lr0.001").mkdir()  # another rate, tried and not asked
    data = tmp_path / "data/seed-3"
    data.mkdir(parents=True)
    (data / "client-00.jsonl").write_text('{"owner": "east"}\n{"owner": "east"}\n')
    script("paired").print_differences(tmp_path, "fedavg", "owner")
    head, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert head[:3] == ["seed", "task", "metric"]
    accuracy = {line[4]: line for line in lines if line[2] == "acc"}
    assert list(accuracy) == ["client-00-alone-lr0.001 (east)", "client-01-alone-lr0.0003"]
    seed, task, _, items, _, value, interval = accuracy["client-00-alone-lr0.001 (east)"]
    assert (seed, task, items, value) == ("3", "fpb", "24", "-50.0*")
    low, high = map(float, interval.split(" to "))
    assert -75 < low < -50 < high < -25
    assert accuracy["client-01-alone-lr0.0003"][5] == "-4.2"
