"""Pieces of the page. Every text is escaped: names, prompts' origins and reasons come from others."""

from collections.abc import Iterable
from html import escape

from shared.text.plain_text import visible_line

SHORT = 12
"""Characters of a digest that are shown."""


def text(words: str) -> str:
    """A text as it may stand in the page."""
    return escape(visible_line(words))


def digest(whole: str) -> str:
    """The beginning of a digest, with all of it where a pointer rests."""
    return f'<code title="{text(whole)}">{text(whole[:SHORT])}</code>' if whole else ""


def cell(content: str, kind: str = "") -> str:
    """A cell of markup. kind: ``n`` for numbers, ``long`` for sentences."""
    return f'<td class="{kind}">{content}</td>' if kind else f"<td>{content}</td>"


def row(cells: Iterable[str], kind: str = "") -> str:
    """A row of cells."""
    return f'<tr class="{kind}">{"".join(cells)}</tr>' if kind else f"<tr>{''.join(cells)}</tr>"


def table(columns: Iterable[tuple[str, str]], rows: Iterable[str]) -> str:
    """A table that scrolls where it is wider than the page. columns: titles, which are text, and their kinds."""
    head = "".join(f'<th class="{kind}">{text(title)}</th>' for title, kind in columns)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
