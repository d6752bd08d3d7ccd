"""A data report as one self-contained HTML page."""

from html import escape
from typing import TYPE_CHECKING

from fedloom.cli.data.terminal import NO_TOKENIZER, counts, lengths, title
from shared.text.plain_text import visible, visible_line

if TYPE_CHECKING:
    from agent.data.checks.report import DataReport, ShownCompletion

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d2430; }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .15rem 1rem .15rem 0; text-align: left; font-weight: normal }
td { text-align: right; font-variant-numeric: tabular-nums } thead th { color: #667 ; text-align: right }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f5f6f8; padding: .8rem; border-radius: 4px; }
mark { background: #bfe8c8; color: inherit } .bad { color: #a11 } .note { color: #667 }
@media (prefers-color-scheme: dark) {
  body { background: #14171c; color: #dde } pre { background: #1e232b }
  mark { background: #1f5a33 } .bad { color: #f88 }
}
"""


def page(report: "DataReport") -> str:
    """The whole page. All text from the data is escaped."""
    heading = escape(visible_line(title(report)))
    tokens = report.tokens
    setup = (
        f"{tokens.model}, template {tokens.template}, at most {tokens.max_length} tokens"
        if tokens is not None
        else NO_TOKENIZER
    )
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{heading}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{heading}</h1><p>{escape(setup)}</p>",
        "<p class=note>This page quotes rows. It is meant for the owner of the data only.</p>",
    ]
    if report.unusable:
        parts.append(f"<p class=bad>The data cannot be used: {escape(report.unusable)}.</p>")
    parts += [_counts(report), _lengths(report), _errors(report), _notices(report)]
    if report.examples:
        parts.append("<h2>Examples</h2><p>The loss covers the <mark>marked</mark> text.</p>")
    parts += [_completion(example.place, shown) for example in report.examples for shown in example.completions]
    return "\n".join([*parts, "</body></html>\n"])


def _counts(report: "DataReport") -> str:
    rows = "".join(f"<tr><th>{escape(label)}</th><td>{count:,}</td></tr>" for label, count in counts(report))
    return f"<h2>Rows</h2><table>{rows}</table>"


def _lengths(report: "DataReport") -> str:
    head = "".join(f"<th>{name}</th>" for name in ("", "minimum", "median", "90 %", "99 %", "maximum"))
    rows = ""
    for label, spread in lengths(report):
        cells = "".join(f"<td>{value:,}</td>" for value in spread.model_dump().values())
        rows += f"<tr><th>{escape(label)}</th>{cells}</tr>"
    return f"<h2>Lengths</h2><table><thead><tr>{head}</tr></thead>{rows}</table>" if rows else ""


def _errors(report: "DataReport") -> str:
    if not report.errors:
        return ""
    items = "".join(f"<li>{escape(visible_line(str(error)))}</li>" for error in report.errors)
    more = report.n_errors - sum(error.count for error in report.errors)
    rest = f"<p>and {more:,} more</p>" if more else ""
    return f"<h2 class=bad>Errors</h2><ul>{items}</ul>{rest}"


def _notices(report: "DataReport") -> str:
    items = "".join(f"<li>{escape(visible_line(str(notice)))}</li>" for notice in report.notices)
    return f"<h2>Not read, or not learnt</h2><ul>{items}</ul>" if items else ""


def _completion(place: str, shown: "ShownCompletion") -> str:
    text = "".join(
        f"<mark>{escape(visible(span.text))}</mark>" if span.supervised else escape(visible(span.text))
        for span in shown.spans
    )
    cut = f"<p class=note>{shown.cut:,} more tokens are cut off.</p>" if shown.cut else ""
    return f"<h3>{escape(place)}{f', {escape(shown.name)}' if shown.name else ''}</h3><pre>{text}</pre>{cut}"
