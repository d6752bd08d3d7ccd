"""Text on terminals: no markup, no control characters; numbers within bounds; JSON that any output takes."""

import ast
import io
import json
import logging
import math
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fedloom.cli import output
from fedloom.cli.plain_console import PlainConsole
from fedloom.cli.plain_table import PlainTable
from shared.text.log_lines import LineFormatter
from shared.text.plain_text import quoted, quoted_values, visible, visible_json, visible_line

FEDLOOM = Path(__file__).parents[3] / "fedloom"
EVIL = "\x1b]0;T\x07[bold]b[/bold] [/] :smile: \x9b31m\u202e\u2066\u200f\u2028\x7f"


def rendered(*things: object, encoding: str = "utf-8", **options: object) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace", newline="")
    console = PlainConsole(file=file, width=80, **options)  # type: ignore[arg-type]
    for thing in things:
        console.print(thing)
    file.flush()
    return file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def evil_things() -> list[object]:
    table = Table(EVIL, title=EVIL)
    table.add_row(EVIL, Text(EVIL))
    plain = PlainTable(EVIL)
    plain.add_row(EVIL + "\nFAKE")
    return [EVIL, Text(EVIL, style="red"), Text.assemble(("x", "bold"), EVIL), table, plain, Panel(Text(EVIL))]


@pytest.mark.parametrize("thing", evil_things(), ids=lambda thing: type(thing).__name__)
def test_a_console_prints_text_as_it_is(thing: object) -> None:
    out = rendered(thing)
    assert visible(out) == out
    flat = "".join(out.split())
    for part in ("\\x1b", "[bold]", ":smile:", "\\u202e"):
        assert part in flat
    assert max(map(len, out.splitlines())) <= 80


def test_on_a_terminal_only_styles_and_the_cursors_moves_are_sequences() -> None:
    file = io.StringIO()
    console = PlainConsole(file=file, width=80, force_terminal=True, color_system="standard")
    with Live(Text(EVIL, style="red"), console=console, auto_refresh=False) as live:
        live.update(Text(EVIL, style="bold"), refresh=True)
    assert "\x1b[31m" in file.getvalue()
    assert "\x1b]0" not in file.getvalue()
    assert "\x07" not in file.getvalue()
    assert "\x9b" not in file.getvalue()


def test_styles_stay_on_their_characters() -> None:
    shown = PlainConsole(file=io.StringIO()).shown(Text.assemble("a\x1b", ("b\x1bc", "bold"), "d"))
    assert shown.plain == "a\\x1bb\\x1bcd"
    assert [(span.start, span.end) for span in shown.spans if span.style] == [(5, 11)]


def test_a_table_keeps_within_a_width_that_ascii_escapes_take() -> None:
    table = PlainTable("A")
    table.add_row("漢" * 60)
    out = rendered(table, "Köln", encoding="ascii")
    assert "\\u6f22\\u6f22" in out
    assert "K\\xf6ln" in out
    assert max(map(len, out.splitlines())) <= 80


@given(st.text())
def test_visible_text_is_printable_and_stays_the_same(text: str) -> None:
    shown = visible(text)
    assert not set(shown) & {*map(chr, range(9)), *map(chr, range(11, 32)), *map(chr, range(127, 160)), "\u202e"}
    assert visible(shown) == shown
    assert "\n" not in visible_line(text)


@given(st.text())
def test_visible_json_is_the_same_document(text: str) -> None:
    document = visible_json(json.dumps(text, ensure_ascii=False))
    assert json.loads(document) == text
    assert visible(document) == document


OF_FORMAT = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cf"]
FILLERS = [chr(code) for code in (0x034F, 0x115F, 0x1160, 0x17B4, 0x180B, 0x2800, 0x3164, 0xFE00, 0xFFA0, 0xE0100)]


def test_a_character_that_is_seen_as_nothing_is_shown() -> None:
    assert {"\u200b", "\u200d", "\u00ad", "\ufeff", "\U000e0041"} <= {*OF_FORMAT}
    for character in (*OF_FORMAT, *FILLERS):
        text = f"trusted{character}model"
        for shown in (visible(text), visible_line(text), rendered(Text(text)).strip(), rendered(text).strip()):
            assert shown.isascii(), ascii(text)
            assert shown != "trustedmodel"
            assert shown.encode().decode("unicode_escape") == text
        document = visible_json(json.dumps({text: text}, ensure_ascii=False))
        assert document.isascii()
        assert json.loads(document) == {text: text}


@pytest.mark.parametrize("text", ["Zürich", "漢字", "naïve café", "Привет", "مرحبا", "नमस्ते", "😀", "a\tb\nc"])
def test_what_is_seen_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
        ("https://a.example:8470", "https://a.example:8470"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a, and b", '"a, and b"'),
        ('a", no more: "b', '"a\\", no more: \\"b"'),
        ("tiny;", '"tiny;"'),
        ("tіny", '"tіny"'),  # the second letter is no Latin one
        ("tiny\n", '"tiny\\n"'),
    ],
)
def test_words_of_others_in_a_sentence_are_in_quotes_unless_they_are_one_plain_word(text: str, shown: str) -> None:
    assert quoted(text) == shown


def test_values_of_others_are_cut_within_their_quotes_and_counted() -> None:
    assert quoted_values({"mu": 0.01, "of": [1, "two"], "on": True, "no": None}) == (
        '"mu": 0.01, "of": [1, "two"], "on": true, "no": null'
    )
    long = quoted_values({"n" * 99: "v" * 99, "list": [1] * 99}, max_chars=9)
    assert long == f'"{"n" * 8}…": "{"v" * 8}…", "list": [1, 1, 1…'
    assert quoted_values({str(number): 1 for number in range(5)}, max_values=2) == '"0": 1, "1": 1, and 3 more'


def test_json_is_valid_in_every_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"city": "Köln 漢 \udcff", "evil": EVIL}
    for encoding in ("ascii", "latin-1", "utf-8"):
        file = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
        monkeypatch.setattr("sys.stdout", file)
        output.print_json(value)
        output.print_json_line(value)
        file.flush()
        printed = file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
        assert json.loads(printed.splitlines()[-1]) == value
        assert json.loads("".join(printed.splitlines()[:-1])) == value


@pytest.mark.parametrize("number", [0, 1, -5, 10**400, -(10**400), 2**63])
def test_sizes_and_counts_are_bounded(number: int) -> None:
    assert len(output.size(number)) < 12
    assert abs(output.bounded(number)) <= 2**63


def test_durations_and_losses_of_any_value_are_short() -> None:
    for value in (0.0, -1.0, 1e9, 1e300, math.inf, -math.inf, math.nan, 1e-300):
        assert len(output.duration(value)) < 20
        assert len(output.loss(value)) < 20
    assert output.duration(math.nan) == "?"
    assert output.ago(datetime.now(UTC) + timedelta(days=9)) == "0 s ago"


def test_a_log_record_is_one_line() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "agent says %s", (EVIL + "\nFAKE LINE",), None)
    line = LineFormatter("%(message)s").format(record)
    assert line == f"agent says {visible_line(EVIL)}\\nFAKE LINE"
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    lines = LineFormatter("%(message)s").format(record)
    assert visible(lines) == lines
    assert "Traceback" in lines


@pytest.mark.parametrize(
    "path", sorted((FEDLOOM / "cli").rglob("*.py")), ids=lambda path: str(path.relative_to(FEDLOOM))
)
def test_commands_print_through_output_alone(path: Path) -> None:
    """What would print markup or raw text cannot be called: print, typer.echo, rich's own consoles and tables."""
    if path.name in ("output.py", "plain_console.py", "plain_table.py"):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "typer.echo", "typer.secho", "Console", "Table", "Table.grid"}, node.lineno
            assert "from_markup" not in called, node.lineno
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert keywords.get("markup", "False") == "False", node.lineno
            if called == "TextColumn":
                assert keywords.get("markup") == "False", node.lineno
            if called == "Panel":
                assert not any(isinstance(each, ast.JoinedStr) for each in [*node.args, keywords.get("title")])
