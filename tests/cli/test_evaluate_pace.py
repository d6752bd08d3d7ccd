"""How long the rest of an evaluation may take, in the words of its lines."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fedloom.cli.evaluation.live import LINE_EVERY_S, Lines
from fedloom.cli.evaluation.pace import Pace
from fedloom.evaluation.results import Results
from fedloom.evaluation.running.plan import Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def progress(done: int, items_done: float, task: str = "gsm8k", model: str = "base", **changes: Any) -> Progress:
    results = Results(datetime.now(UTC), "", 0, None, {}, [])
    return Progress(task, model, done, 100, results, items_done, **{"items_total": 600, **changes})


def test_the_rest_of_all_tasks_is_told_by_the_items_that_were_asked() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.in_words(progress(40, 40)) == "gsm8k, base: 40 of 100", "stored replies have no pace"
    clock.now = 10
    assert pace.in_words(progress(44, 44)) == "gsm8k, base: 44 of 100", "four items tell little"
    clock.now = 20
    # ten items in 20 s; 550 are left
    assert pace.in_words(progress(50, 50)) == "gsm8k, base: 50 of 100; about 18 min left for all tasks"
    clock.now = 50  # another model: what went before its first word is not its pace
    assert pace.in_words(progress(90, 190, model="mine")) == "gsm8k, mine: 90 of 100; about 14 min left for all tasks"
    assert pace.in_words(progress(100, 600, model="mine")) == "gsm8k, mine: 100 of 100"


def test_without_a_terminal_there_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    for done in range(0, 100, 10):
        clock.now = done * LINE_EVERY_S / 50
        lines.show(progress(done, done))
    said = capsys.readouterr().err.splitlines()
    assert said == ["gsm8k, base: 50 of 100; about 6 min left for all tasks"]
