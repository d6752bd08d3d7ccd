"""Rows that count once, as copies of each other for the model: in a preparation, and among those that are drawn."""

from pathlib import Path
from typing import Any

import pytest

from agent.orders.job import Done
from tests.support.tiny import PAIRS, ROWS
from tests.train.conftest import Lab, write_rows

LONG = {"instruction": "Think.", "input": "", "output": "word " * 200}
"""A row of which only the beginning fits."""


def prepared(lab: Lab, path: Path, rows: list[dict[str, Any]], kind: str = "sft") -> tuple[int, int]:
    """Training rows, and distinct ones."""
    source = lab.source(kind, path=write_rows(path / "copies.jsonl", rows), held_out=0.0)
    done = lab.carry_out(lab.work(lab.prepare_job(training_kind=kind), data=source))
    assert isinstance(done, Done)
    assert done.result.kind == "prepare"
    return done.result.n_train, done.n_distinct


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        (ROWS[:5], (5, 5)),
        (ROWS[:5] * 3, (15, 5)),
        ([ROWS[0]] * 40, (40, 1)),
        ([LONG, LONG | {"output": LONG["output"] + "and another end"}], (2, 1)),
        ([ROWS[0], ROWS[0] | {"id": 7}], (2, 1)),
    ],
    ids=["different", "copies", "one row", "equal until the cut", "equal but for a column that is not read"],
)
def test_copies_count_once(lab: Lab, tmp_path: Path, rows: list[dict[str, Any]], counts: tuple[int, int]) -> None:
    assert prepared(lab, tmp_path, rows) == counts


def test_copies_of_pairs_count_once(lab: Lab, tmp_path: Path) -> None:
    assert prepared(lab, tmp_path, [*PAIRS[:4], *PAIRS[:2]], "dpo") == (6, 4)


@pytest.mark.parametrize(
    ("rows", "steps", "n_distinct"),
    [(ROWS[:40], 2, 8), ([ROWS[0]] * 40, 2, 1), (ROWS[:3] * 10, 5, 3), (ROWS[:4], 5, 4), (ROWS[:40], 1, 4)],
    ids=["different", "one row", "copies", "fewer than are drawn", "one step"],
)
def test_a_training_counts_the_distinct_rows_that_it_drew(
    lab: Lab, tmp_path: Path, rows: list[dict[str, Any]], steps: int, n_distinct: int
) -> None:
    source = lab.source(path=write_rows(tmp_path / "drawn.jsonl", rows), held_out=0.0)
    adapter = lab.adapter_0()
    job = lab.train_job(adapter, steps=steps)
    assert job.training.batch_size == 4
    assert lab.carry_out(lab.work(job, data=source, adapter=adapter)).n_distinct == n_distinct


def test_held_out_copies_count_once(lab: Lab, tmp_path: Path) -> None:
    held_out = write_rows(tmp_path / "held_out.jsonl", [*ROWS[:5], *[ROWS[5]] * 20])
    source = lab.source(held_out=0.0, held_out_path=held_out)
    done = lab.carry_out(lab.work(lab.prepare_job(), data=source))
    assert (done.result.n_held_out, done.n_distinct_held_out) == (25, 6)
    adapter = lab.adapter_0()
    evaluated = lab.carry_out(lab.work(lab.evaluate_job(adapter), data=source, adapter=adapter))
    assert evaluated.n_distinct == 6
