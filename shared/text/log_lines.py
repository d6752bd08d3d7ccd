"""Log lines: one line a record, whatever text of other parties it has."""

import logging

from shared.text.plain_text import visible, visible_line


class LineFormatter(logging.Formatter):
    """Formats a record as one line. The lines of a traceback follow with a mark, so that none looks like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - a name of logging
        return visible_line(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802 - a name of logging
        text = visible(super().formatException(ei))  # type: ignore[arg-type]
        return "\n".join(f"  | {line}" for line in text.split("\n"))
