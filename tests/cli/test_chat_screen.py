"""Two answers side by side, on terminals of several sizes."""

import io

import pytest
from rich.console import Console

from fedloom.cli.chat.screen import Answers, Column
from shared.wire.tasks.leases import Phase, Progress


def drawn(answers: Answers, width: int, height: int = 24) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, height=height, force_terminal=True, color_system=None).print(answers)
    return out.getvalue().splitlines()


def answers() -> Answers:
    return Answers(Column("base", "one " * 30), Column("adapted · clinic #10", "two " * 300))


@pytest.mark.parametrize(("width", "beside"), [(120, True), (80, True), (60, True), (59, False), (30, False)])
def test_columns_are_side_by_side_if_there_is_room(width: int, beside: bool) -> None:
    lines = drawn(answers(), width)
    assert max(map(len, lines)) <= width
    assert ("base" in lines[0] and "adapted" in lines[0]) == beside
    text = "".join(lines)
    assert (text.count("one"), text.count("two")) == (30, 300)


@pytest.mark.parametrize("width", [80, 50])
def test_a_growing_answer_fits_the_terminal_and_shows_its_end(width: int) -> None:
    growing = answers()
    growing.growing = True
    growing.adapted.append("the end")
    lines = drawn(growing, width, height=12)
    assert len(lines) < 12
    assert "the end" in "".join(lines)


def test_before_the_first_text_it_shows_the_current_step() -> None:
    column = Column("base")
    column.progress(Progress(phase=Phase.FETCHING_MODEL, done=30, total=60))
    assert "fetching model  50%" in "".join(drawn(Answers(column, Column("adapted")), 80))
    column.append("so")
    assert "fetching" not in "".join(drawn(Answers(column, Column("adapted")), 80))


def test_a_long_word_is_folded_and_control_characters_are_shown() -> None:
    lines = drawn(Answers(Column("base", "x" * 200), Column("adapted", "\x1b[2Ja\tb\r")), 80)
    text = "".join(lines)
    assert text.count("x") == 200
    assert "\x1b" not in text
    assert "\ufffd[2Ja b\ufffd" in text
