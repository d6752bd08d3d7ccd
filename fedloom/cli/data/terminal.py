"""A data report on a terminal. Text that the loss covers is green, or in brackets where there are no colours."""

from typing import TYPE_CHECKING

from fedloom.cli import output
from shared import kinds
from shared.text.plain_text import visible, visible_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from agent.data.checks.report import DataReport, ShownCompletion, Span, Spread

SUPERVISED_STYLE = "bold green"
OPEN_MARK, CLOSE_MARK = "[[", "]]"
_MAX_CHARACTERS = 1200


def show(report: "DataReport", console: "Console") -> None:
    """Print the report."""
    from rich.text import Text

    tokens = report.tokens
    console.print(Text(visible_line(title(report)), style="bold"))
    if tokens is not None:
        console.print(Text(f"{tokens.model}, template {tokens.template}, at most {tokens.max_length} tokens"))
    else:
        console.print(NO_TOKENIZER)
    console.print()
    _counts(report, console)
    if report.characters is not None:
        console.print()
        _lengths(report, console)
    if report.errors:
        console.print(Text("\nerrors", style="bold red"))
        for line in map(str, report.errors):
            console.print(Text(f"  {visible_line(line)}"), soft_wrap=True)
        if rest := report.n_errors - sum(error.count for error in report.errors):
            console.print(f"  and {rest:,} more")
    if report.notices:
        console.print(Text("\nnot read, or not learnt", style="bold yellow"))
        for line in map(str, report.notices):
            console.print(Text(f"  {visible_line(line)}"), soft_wrap=True)
    _examples(report, console)
    if report.unusable:
        console.print(Text(f"\nthe data cannot be used: {report.unusable}", style="bold red"))


NO_TOKENIZER = "no tokenizer is used without --campaign: tokens and templates are not checked"


def title(report: "DataReport") -> str:
    """The data's name, its file, and the kind of training that its rows are for."""
    kind = kinds.find(report.kind)
    return f"{report.name}: {report.label}, {' and '.join((*kind.completions, *kind.labels))} ({report.kind})"


def counts(report: "DataReport") -> list[tuple[str, int]]:
    """The counts with their labels."""
    labelled = [
        ("records", report.records),
        ("to train on", report.train),
        ("held out", report.held_out),
        *((f"skipped: {reason}", count) for reason, count in report.skipped.items()),
        ("errors", report.n_errors),
    ]
    if report.tokens is not None:
        labelled.append((f"cut at {report.tokens.max_length} tokens", report.tokens.cut))
    labelled.append(("duplicates", report.duplicates))
    if report.overlap:
        labelled.append(("skipped: also held out", report.overlap))
    labelled.append(("to train on, with a held-out prompt", report.same_prompt))
    return labelled


def lengths(report: "DataReport") -> list[tuple[str, "Spread"]]:
    """The known length distributions with their labels."""
    unit = "completion" if kinds.find(report.kind).compares else "row"
    tokens = report.tokens
    labelled = [(f"characters a {unit}", report.characters)]
    if tokens is not None:
        labelled += [(f"tokens a {unit}", tokens.lengths), (f"covered by the loss, a {unit}", tokens.supervised)]
    return [(label, spread) for label, spread in labelled if spread is not None]


def _counts(report: "DataReport", console: "Console") -> None:
    table = output.table("WHAT", "ROWS", right=["ROWS"])
    table.show_header = False
    for label, count in counts(report):
        table.add_row(label, f"{count:,}", style="red" if label == "errors" and count else None)
    console.print(table)


def _lengths(report: "DataReport", console: "Console") -> None:
    names = ("MINIMUM", "MEDIAN", "90 %", "99 %", "MAXIMUM")
    table = output.table("", *names, right=names)
    for label, spread in lengths(report):
        table.add_row(label, *(f"{value:,}" for value in spread.model_dump().values()))
    if table.row_count:
        console.print(table)


def _examples(report: "DataReport", console: "Console") -> None:
    from rich.text import Text

    if not report.examples:
        return
    coloured = console.is_terminal and not console.no_color
    mark = (
        Text("green text", style=SUPERVISED_STYLE) if coloured else Text(f"text between {OPEN_MARK} and {CLOSE_MARK}")
    )
    console.print(Text("\nexamples; the loss covers the ") + mark)
    for example in report.examples:
        for shown in example.completions:
            title = Text(f"{example.place}{f', {shown.name}' if shown.name else ''}")
            console.rule(title, align="left", characters="-")
            console.print(_text(shown, coloured=coloured), soft_wrap=True)


def _text(completion: "ShownCompletion", *, coloured: bool) -> "Text":
    from rich.text import Text

    text = Text()
    for span in completion.spans:
        shown = visible(_shortened(span))
        if not span.supervised:
            text.append(shown, style="dim" if coloured else "")
        elif coloured:
            text.append(shown, style=SUPERVISED_STYLE)
        else:
            text.append(f"{OPEN_MARK}{shown}{CLOSE_MARK}")
    if completion.cut:
        text.append(f"\n({completion.cut:,} more tokens are cut off)", style="yellow")
    return text


def _shortened(span: "Span") -> str:
    """The text of a span; the middle of a long one is left out."""
    if len(span.text) <= _MAX_CHARACTERS:
        return span.text
    half = _MAX_CHARACTERS // 2
    return f"{span.text[:half]} ({len(span.text) - 2 * half:,} characters) {span.text[-half:]}"
