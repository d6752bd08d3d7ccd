"""A bar that tells a full one from an empty one on every terminal: with 16 colours, without colours, in ASCII."""

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment


class Bar(ProgressBar):
    """A bar of *width* characters, filled up to *completed* of *total*."""

    def __init__(self, *, total: float, completed: float, width: int) -> None:
        # the standard colours by name: shades of a theme all become the same one on a terminal that has only these
        super().__init__(
            total=total,
            completed=completed,
            width=width,
            style="bright_black",
            complete_style="cyan",
            finished_style="green",
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not (options.ascii_only or options.legacy_windows):
            yield from super().__rich_console__(console, options)
            return
        width = min(self.width or options.max_width, options.max_width)
        filled = int(width * (self.percentage_completed or 0.0) / 100)
        yield Segment("#" * filled + "." * (width - filled))
