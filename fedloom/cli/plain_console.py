"""A console that prints text as it is: no markup, no emoji codes, no control characters."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Span, Text

from shared.text.plain_text import visible

_ASCII = {"→": "->"}
"""What stands for a sign that the program writes itself, on a terminal that cannot show it."""


class PlainConsole(Console):
    """A console for texts of other parties. What has a style is given as ``Text``."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Text without a style of its own."""
        return super().render_str(text, **{**options, "markup": False, "emoji": False, "highlight": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments without control characters, except those by which rich itself moves the cursor."""
        if isinstance(renderable, Text):
            renderable = self.shown(renderable)  # before it is laid out: escapes take room
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else self._printable(text.replace("…", self._ellipsis)), style, control)

    @property
    def _ellipsis(self) -> str:
        """What stands for the end of a shortened text. One character, so that the layout holds."""
        return "…" if self._printable("…") == "…" else "~"

    def shown(self, text: Text) -> Text:
        """The text with what the terminal cannot show, or should not obey, escaped."""
        plain = text.plain
        if self._printable(plain) == plain:
            return text
        characters = list(map(self._spelled, plain))
        starts = [0]
        for one in characters:
            starts.append(starts[-1] + len(one))
        shown = text.blank_copy("".join(characters))
        shown.spans = [
            Span(starts[min(span.start, len(plain))], starts[min(span.end, len(plain))], span.style)
            for span in text.spans
        ]
        return shown

    def _spelled(self, character: str) -> str:
        printable = self._printable(character)
        return printable if printable == character else _ASCII.get(character, printable)

    def _printable(self, text: str) -> str:
        return visible(text).encode(self.encoding, "backslashreplace").decode(self.encoding)
