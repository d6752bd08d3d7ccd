"""A report on data, on a terminal. What the loss covers is coloured, and marked where there are no colours."""

from typing import TYPE_CHECKING

from fedloom.cli import output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from agent.data.report import DataReport, ShownCompletion, Span, Spread

LEARNT = "bold green"
OPENS, CLOSES = "[[", "]]"
_MOST_CHARACTERS = 1200
_INVISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}


def show(report: "DataReport", console: "Console") -> None:
    """Print the report."""
    from rich.text import Text

    tokens = report.tokens
    console.print(Text(f"{report.name}: {report.label}, {KINDS[report.kind]}", style="bold"))
    if tokens is not None:
        console.print(Text(f"{tokens.model}, template {tokens.template}, at most {tokens.max_length} tokens"))
    else:
        console.print("without a campaign no tokenizer is asked: nothing is said about tokens and templates")
    console.print()
    _counts(report, console)
    if report.characters is not None:
        console.print()
        _lengths(report, console)
    if report.errors:
        console.print(Text("\nerrors", style="bold red"))
        for error in report.errors:
            console.print(Text(f"  {visible(str(error))}"), soft_wrap=True)
        if rest := report.n_errors - sum(one.count for one in report.errors):
            console.print(f"  and {rest:,} more")
    _examples(report, console)
    if report.unusable:
        console.print(Text(f"\nthe data cannot be used: {report.unusable}", style="bold red"))


KINDS = {"sft": "completions (sft)", "dpo": "preferences (dpo)"}


def counts(report: "DataReport") -> list[tuple[str, int]]:
    """What is counted, in words."""
    found = [
        ("records", report.records),
        ("to train on", report.train),
        ("held out", report.held_out),
        *((f"skipped: {reason}", count) for reason, count in report.skipped.items()),
        ("errors", report.n_errors),
    ]
    if report.tokens is not None:
        found.append((f"cut at {report.tokens.max_length} tokens", report.tokens.cut))
    found.append(("duplicates", report.duplicates))
    if report.overlap:
        found.append(("skipped: also in the held-out file", report.overlap))
    found.append(("to train on, with a held-out prompt", report.same_prompt))
    return found


def lengths(report: "DataReport") -> list[tuple[str, "Spread"]]:
    """The spreads that are known, in words."""
    of = "side" if report.kind == "dpo" else "row"
    tokens = report.tokens
    found = [(f"characters a {of}", report.characters)]
    if tokens is not None:
        found += [(f"tokens a {of}", tokens.lengths), (f"covered by the loss, a {of}", tokens.supervised)]
    return [(words, spread) for words, spread in found if spread is not None]


def visible(text: str) -> str:
    """Text whose control characters cannot reach a terminal."""
    return text.translate(_INVISIBLE)


def _counts(report: "DataReport", console: "Console") -> None:
    table = output.table("WHAT", "ROWS", right=["ROWS"])
    table.show_header = False
    for words, count in counts(report):
        table.add_row(words, f"{count:,}", style="red" if words == "errors" and count else None)
    console.print(table)


def _lengths(report: "DataReport", console: "Console") -> None:
    names = ("LEAST", "MEDIAN", "90 %", "99 %", "MOST")
    table = output.table("", *names, right=names)
    for words, spread in lengths(report):
        table.add_row(words, *(f"{value:,}" for value in spread.model_dump().values()))
    if table.row_count:
        console.print(table)


def _examples(report: "DataReport", console: "Console") -> None:
    from rich.text import Text

    if not report.examples:
        return
    coloured = console.is_terminal and not console.no_color
    told = Text("green", style=LEARNT) if coloured else Text(f"between {OPENS} and {CLOSES}")
    console.print(Text("\nexamples; the loss covers what is ") + told)
    for example in report.examples:
        for side in example.completions:
            console.rule(Text(f"{example.place}{f', {side.name}' if side.name else ''}"), align="left", characters="-")
            console.print(_text(side, coloured=coloured), soft_wrap=True)


def _text(side: "ShownCompletion", *, coloured: bool) -> "Text":
    from rich.text import Text

    text = Text()
    for span in side.spans:
        shown = visible(_shortened(span))
        if not span.supervised:
            text.append(shown, style="dim" if coloured else "")
        elif coloured:
            text.append(shown, style=LEARNT)
        else:
            text.append(f"{OPENS}{shown}{CLOSES}")
    if side.cut:
        text.append(f"\n({side.cut:,} more tokens are cut off)", style="yellow")
    return text


def _shortened(span: "Span") -> str:
    """A piece without its middle, where it is long."""
    if len(span.text) <= _MOST_CHARACTERS:
        return span.text
    half = _MOST_CHARACTERS // 2
    return f"{span.text[:half]} ({len(span.text) - 2 * half:,} characters) {span.text[-half:]}"
