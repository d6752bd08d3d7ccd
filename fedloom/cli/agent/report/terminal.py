"""A report on a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedloom.cli import output
from fedloom.cli.agent.report import words
from fedloom.cli.agent.report.numbers import ModelNumbers, ReportNumbers
from shared.text.plain_text import visible, visible_line
from shared.text.unsafe import shorten

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_CHARACTERS_SHOWN = 300
"""Most characters of a question and of an answer."""
_ADAPTERS_SHOWN = 3
"""Adapters whose answers are shown: the best, and the newest ones."""


def print_report(console: "Console", numbers: ReportNumbers, max_new_tokens: int) -> None:
    """Print all of it."""
    from rich.text import Text

    console.print(Text(visible_line(numbers.report.subject.known.name), style="bold"))
    console.print(Text(words.setup(numbers), style="dim"))
    console.print()
    console.print(_models(numbers))
    console.print()
    console.print(Text(words.verdict(numbers)))
    _print_differences(console, numbers)
    for note in words.notes(numbers, max_new_tokens):
        console.print(Text(note, style="dim"))
    shown = _shown(numbers)
    for place in range(min(words.ANSWERS, numbers.n_asked)):
        console.print()
        console.print(_answers(shown, place))


def _models(numbers: ReportNumbers) -> "Table":
    base, alone = numbers.named("base"), numbers.named("alone")
    columns = ["LOSS", "VS BASE", *(["VS ALONE"] if alone is not None else []), "EXACT"]
    columns += [visible_line(numbers.own_name)] if numbers.own_name else []
    table = output.table("MODEL", *columns, right=columns)
    for each in numbers.models:
        cells = [words.loss_text(each), words.change_of(each, base, numbers.loss)]
        if alone is not None:
            cells.append(words.change_of(each, alone, numbers.loss) if each is not base else "")
        cells.append(words.exact(each))
        if numbers.own_name:
            cells.append(f"{each.own.value:.4g}" if each.own is not None else "")
        table.add_row(each.name, *cells)
    return table


def _print_differences(console: "Console", numbers: ReportNumbers) -> None:
    best = numbers.best
    if best is None:
        return
    table = output.table("", "", "", fold=[""])
    table.show_header = False
    for difference in best.differences:
        for metric, value in words.difference_lines(difference, visible_line(numbers.own_name)):
            table.add_row(f"{best.name} - {difference.than}", metric, value)
    if table.row_count:
        console.print(table)


def _shown(numbers: ReportNumbers) -> Sequence[ModelNumbers]:
    """The models whose answers are shown: of many adapters the best and the newest."""
    adapters = [each for each in numbers.models if each.measured.model.kind == "adapter"]
    kept = adapters[-_ADAPTERS_SHOWN:]
    if numbers.best is not None and numbers.best not in kept:
        kept = [numbers.best, *kept[1:]]
    return [each for each in numbers.models if each.measured.model.kind != "adapter" or each in kept]


def _answers(models: Sequence[ModelNumbers], place: int) -> "Table":
    from rich.text import Text

    first = models[0].measured.rows[place]
    table = output.table("", "", fold=[""])
    table.show_header = False
    table.columns[0].no_wrap, table.columns[1].no_wrap = True, False
    table.columns[1].overflow = "fold"
    rows = [(f"question {place + 1}", first.question), ("expected", first.expected)]
    rows += [(each.name, each.measured.rows[place].answer or "") for each in models]
    for title, text in rows:
        shown = visible(shorten(text.strip(), _CHARACTERS_SHOWN).expandtabs(4))
        table.add_row(title, Text(shown) if shown else Text("(nothing)", style="dim"))
    return table
