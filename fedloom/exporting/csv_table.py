"""Tables as CSV, for spreadsheets and scripts."""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from shared.text.plain_text import visible

_BEFORE_FORMULA = re.compile(
    r"(^|[;\t\n])"  # where semicolons or tabs separate, a spreadsheet splits even a quoted text that is not the first
    r"(?=(?:[^\S\t\n]|[\"\u200b-\u200d\u2060\ufeff])*"  # spaces, and what is not shown
    r"[=+\-@＝＋－＠])"
)
_FORMULA_IN_JSON = re.compile(r"(;(?:[^\S\t\n]|[\"\u200b-\u200d\u2060\ufeff])*)([=+\-@＝＋－＠])")


def write_csv(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a header and the rows, one a line. A value that a row lacks is an empty cell.

    Numbers are written in full, times as ISO 8601, lists and mappings as JSON.
    """
    table = csv.writer(file, lineterminator="\n")
    table.writerow(columns)
    for row in rows:
        table.writerow([_cell(row.get(column)) for column in columns])


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case datetime():
            return value.isoformat()
        case str():
            return _harmless(str(value))
        case _:
            return _harmless_json(json.dumps(value, ensure_ascii=False))


def _harmless(text: str) -> str:
    """A text with an apostrophe before what a spreadsheet would run as a formula: it may be another party's.

    Control characters are escaped, as the table may be printed on a terminal. Line breaks are line feeds: the writer
    quotes those, but no carriage return, which readers take for a new row.
    """
    text = visible(text.replace("\r\n", "\n").replace("\r", "\n"))
    return _BEFORE_FORMULA.sub(r"\1'", text)


def _harmless_json(document: str) -> str:
    """A list or mapping as JSON, in which a formula's first character is an escape: its reader still gets the text."""
    return _FORMULA_IN_JSON.sub(lambda found: f"{found[1]}\\u{ord(found[2]):04x}", visible(document))
