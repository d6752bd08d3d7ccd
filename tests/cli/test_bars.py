"""Bars and arrows are readable on every terminal: with 16 colours, with none, in ASCII."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from fedloom.cli import output
from fedloom.cli.bar import Bar
from fedloom.cli.plain_console import PlainConsole


def terminal(encoding: str) -> tuple[io.BytesIO, PlainConsole]:
    written = io.BytesIO()
    file = io.TextIOWrapper(written, encoding=encoding, write_through=True)
    return written, PlainConsole(file=file, width=40, force_terminal=True, color_system=None)


@pytest.mark.parametrize(
    ("completed", "drawn"),
    [
        (0, ".........."),
        (1, ".........."),
        (5, "##........"),
        (10, "#####....."),
        (20, "##########"),
        (99, "##########"),
    ],
)
def test_in_ascii_a_bar_is_filled_with_another_sign_than_it_is_empty(completed: int, drawn: str) -> None:
    written, console = terminal("ascii")
    console.print(Bar(total=20, completed=completed, width=10))
    assert written.getvalue().decode() == drawn


@pytest.mark.parametrize("colours", ["standard", "256", "truecolor"])
def test_full_begun_and_empty_bars_have_colours_of_their_own(colours: str) -> None:
    drawn = []
    for completed in (0, 5, 10):
        console = Console(file=io.StringIO(), width=40, force_terminal=True, color_system=colours)  # type: ignore[arg-type]
        console.print(Bar(total=10, completed=completed, width=10))
        assert isinstance(console.file, io.StringIO)
        drawn.append(console.file.getvalue())
    first_colour = [each.partition("m")[0] for each in drawn]
    assert len(set(first_colour)) == 3, drawn


@pytest.mark.parametrize(("encoding", "arrow"), [("utf-8", "→"), ("ascii", "->")])
def test_an_arrow_falls_back_to_ascii_in_texts_and_in_tables(encoding: str, arrow: str) -> None:
    written, console = terminal(encoding)
    console.print(Text("loss 2.3 → 2.1 é"))
    table = output.table("LOSS")
    table.add_row("2.3 → 2.1")
    console.print(table)
    lines = [line.rstrip() for line in written.getvalue().decode(encoding).splitlines()]
    accent = "é" if encoding == "utf-8" else "\\xe9"
    assert lines == [f"loss 2.3 {arrow} 2.1 {accent}", "LOSS", f"2.3 {arrow} 2.1"]
