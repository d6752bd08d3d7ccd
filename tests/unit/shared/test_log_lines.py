"""One record is one line, and no control character of another party reaches a log."""

import io
import logging

import pytest

from shared.text.log_lines import LineFormatter

HOSTILE = "\x1b]0;T\x07\x1b[2J\x1b]52;c;eA==\x07\x9b31m [link]y[/link]\r\nFAKE LINE\u2028all is well\u202e\x00\x85"


def logged(message: str, *arguments: object, exc_info: BaseException | None = None) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.error(message, *arguments, exc_info=exc_info)
    return stream.getvalue()


@pytest.mark.parametrize("arguments", [(HOSTILE,), ()])
def test_a_record_stays_one_line_without_control_characters(arguments: tuple[str, ...]) -> None:
    text = logged("it says %s", *arguments) if arguments else logged(HOSTILE)
    line, end = text[:-1], text[-1]
    assert end == "\n"
    assert line.isprintable()
    assert "FAKE LINE" in line
    assert r"\x1b]0;T\x07" in line


def test_ordinary_text_stays_as_it_is() -> None:
    assert logged("Köln 漢字 👍 %s", "it's 5 µm\tlong") == "ERROR Köln 漢字 👍 it's 5 µm\tlong\n"


def test_the_lines_of_a_traceback_cannot_be_taken_for_records() -> None:
    try:
        raise ValueError(f"bad\nERROR all is lost {HOSTILE}")
    except ValueError as error:
        lines = logged("failed", exc_info=error).splitlines()
    assert lines[0] == "ERROR failed"
    assert all(line.startswith("  | ") and line.isprintable() for line in lines[1:])
    assert any("all is lost" in line for line in lines[1:])
