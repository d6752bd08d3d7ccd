"""How long the rest of an evaluation may take, in the words of its lines."""

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.orders.protocol import LocalPhase, LocalProgress
from fedloom.cli.evaluation.live import LINE_EVERY_S, Lines
from fedloom.cli.evaluation.pace import Pace
from fedloom.evaluation.results import Results
from fedloom.evaluation.running.plan import Progress
from fedloom.evaluation.running.telling import Telling
from shared.wire.tasks.leases import Phase
from shared.wire.tasks.leases import Progress as OfChild


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


LOADING = OfChild(phase=Phase.LOADING_MODEL)


def test_a_download_and_a_load_of_the_base_model_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    for percent in range(0, 100, 20):
        clock.now = percent * LINE_EVERY_S / 50
        lines.show(progress(0, 0, "", "", waits_for=OfChild(phase=Phase.FETCHING_MODEL, done=percent, total=100)))
    lines.show(progress(0, 0, waits_for=LOADING))
    lines.show(progress(0, 0, waits_for=LOADING))
    lines.show(progress(0, 0))
    said = capsys.readouterr().err.splitlines()
    assert said == [f"base model: fetching model  {share}%" for share in (0, 60)] + ["base model: loading model"]


def test_a_load_is_no_pace() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.in_words(progress(0, 0))
    clock.now = 600
    assert pace.in_words(progress(0, 0, waits_for=LOADING)) == "base model: loading model"
    clock.now = 1200
    pace.in_words(progress(0, 0))
    clock.now = 1220
    assert pace.in_words(progress(10, 10)) == "gsm8k, base: 10 of 100; about 20 min left for all tasks"


def test_what_the_child_does_is_told_until_it_replies() -> None:
    told: list[Progress] = []
    telling = Telling(told.append)
    telling.tell_child(LOADING)
    assert told == [], "there is nothing to show it with"
    telling.tell(progress(3, 3))
    for doing in (
        LOADING,
        LOADING,
        LocalProgress(phase=LocalPhase.ANSWERING, done=0, total=5),
        LocalProgress(phase=LocalPhase.ANSWERING, done=5, total=5),
    ):
        telling.tell_child(doing)
    assert [(each.done, each.waits_for) for each in told] == [(3, None), (3, LOADING), (3, None)]
