"""``fedloom chat``: the base model and the adapted one, asked the same."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.agent.owner_commands import agent_errors_reported
from fedloom.cli.adapter.local_child import AdapterFolder, BaseFolder, open_child, progress_shown

if TYPE_CHECKING:
    from fedloom.cli.chat.asker import Asker

PROMPT = "ask> "
_STOPPED = 130


def chat(
    adapter: AdapterFolder,
    base: BaseFolder = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="How a question becomes a prompt: alpaca, vicuna, chat, or a file with a chat template; by default as "
            "in the adapter's campaign, otherwise `chat`.",
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 200,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 takes the likeliest token each time; above it tokens are drawn.")
    ] = 0.0,
    question: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Ask this and end. May be given several times.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a question.")] = False,
) -> None:
    """Ask the base model and the adapted one the same, side by side.

    On a terminal it asks for questions until /quit or Ctrl-D; Ctrl-C stops an
    answer. With --question, or with questions on standard input (one a line),
    it answers them and ends.

    Each question stands alone: nothing that was said before is remembered.
    Needs the extra `agent`.
    """
    from fedloom.adapters.local import read_adapter_folder
    from fedloom.cli.chat.asker import Asker

    questions = question or _piped()
    if questions is None and as_json:
        message = "needs --question, or questions on standard input"
        raise typer.BadParameter(message, param_hint="--json")
    found = read_adapter_folder(adapter)
    try:
        with agent_errors_reported(), open_child(found, base) as child:
            asker = Asker(child, found, template, max_new_tokens, temperature)
            with progress_shown("starting") as show:
                asker.load(show)
            if questions is None:
                _converse(asker)
            else:
                _answer(asker, questions, as_json=as_json)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        sys.exit(_STOPPED)


def _piped() -> list[str] | None:
    """The questions on standard input; None where it is a terminal."""
    if sys.stdin.isatty():
        return None
    try:
        return [line.strip() for line in sys.stdin if line.strip()]
    except UnicodeDecodeError as error:
        message = "the questions on standard input are not text in UTF-8"
        raise typer.BadParameter(message) from error


def _answer(asker: "Asker", questions: Sequence[str], *, as_json: bool) -> None:
    console = output.console()
    for one, answers in zip(questions, asker.answers(questions), strict=True):
        if as_json:
            fields = {"question": one, "base": answers.base.text, "adapted": answers.adapted.text}
            print(json.dumps(fields, ensure_ascii=False), flush=True)  # noqa: T201  (flushed: somebody may be reading)
        elif console.is_terminal:
            console.print(one, style="bold", markup=False)
            console.print(answers)
        else:
            sides = "".join(f"\n[{side.title}]\n{side.text}\n" for side in (answers.base, answers.adapted))
            print(f"{PROMPT}{one}{sides}", flush=True)  # noqa: T201


def _converse(asker: "Asker") -> None:
    """Ask and answer until the person has had enough."""
    from agent.errors import TaskFailed

    console = output.console()
    typer.echo("Each question stands alone. /quit or Ctrl-D ends, Ctrl-C stops an answer.")
    for number, one in enumerate(_typed()):
        try:
            asker.show(one, console, seed=number)
        except KeyboardInterrupt:
            typer.echo("stopped; the next question loads the model again")
        except TaskFailed as error:
            typer.echo(f"fedloom: {error}", err=True)


def _typed() -> Iterator[str]:
    """The lines that are typed, without the empty ones."""
    with suppress(ImportError):  # Windows has none; its terminal edits lines by itself
        import readline  # noqa: F401  - input() edits lines, and remembers them
    while True:
        try:
            line = input(PROMPT).strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return
        if line == "/quit":
            return
        if line:
            yield line
