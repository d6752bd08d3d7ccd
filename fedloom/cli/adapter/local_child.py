"""What ``adapter merge`` and ``chat`` share: their arguments, the child process that does the work, its progress."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output

if TYPE_CHECKING:
    from agent.local import LocalChild
    from agent.orders.on_base.model import LoraFile
    from agent.orders.protocol import ChildProgress
    from fedloom.adapters.local import LocalAdapter

AdapterFolder = Annotated[
    Path,
    typer.Argument(
        metavar="ADAPTER",
        exists=True,
        file_okay=False,
        help="A folder from `fedloom adapter pull`, or another LoRA adapter of PEFT.",
    ),
]
BaseFolder = Annotated[
    Path | None,
    typer.Option(
        "--base",
        exists=True,
        file_okay=False,
        metavar="FOLDER",
        help="The base model's folder; by default the model that the adapter names, downloaded if needed.",
    ),
]


def open_child(adapter: "LocalAdapter", base: Path | None) -> "LocalChild":
    """A child process for the adapter's base model. Raises NotInstalled and OSError."""
    from agent.local import LocalChild

    return LocalChild(adapter.base, base, adapter.fingerprint)


def lora_file(adapter: "LocalAdapter") -> "LoraFile":
    """The adapter as the child takes it."""
    from agent.orders.on_base.model import LoraFile

    return LoraFile(weights=adapter.weights, lora=adapter.lora)


@contextmanager
def progress_status(first: str) -> Iterator[Callable[["ChildProgress"], None]]:
    """Show the child's progress on stderr if that is a terminal, until the block ends. Yields the progress callback."""
    from rich.text import Text

    with output.console(stderr=True).status(Text(first)) as status:
        yield lambda progress: status.update(Text(progress_text(progress)))


def progress_text(progress: "ChildProgress") -> str:
    """The child's phase, with the percentage done if the total is known."""
    if not progress.total:
        return progress.phase
    return f"{progress.phase}  {progress.done / progress.total:.0%}"
