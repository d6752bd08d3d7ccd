"""``fedloom chat``: asks the base model and the adapted model the same questions."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.adapter.local_child import AdapterFolder, BaseFolder, open_child, progress_status
from fedloom.cli.failures import ExitCode

if TYPE_CHECKING:
    from fedloom.cli.chat.asker import Asker

PROMPT = "ask> "


def chat(
    adapter: AdapterFolder,
    base: BaseFolder = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Prompt template: alpaca, vicuna, chat, or a file with a chat template. By default the one of the "
            "adapter's campaign, otherwise chat.",
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 200,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 always takes the likeliest token; above 0, tokens are sampled.")
    ] = 0.0,
    question: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Ask this question and exit. May be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each question.")] = False,
) -> None:
    """Ask the base model and the adapted model the same questions, side by side.

    On a terminal, type questions until /quit or Ctrl-D; Ctrl-C stops an
    answer. With --question, or with questions on standard input (one a line),
    it answers them and exits.

    Each question stands alone: earlier questions and answers are not part of
    the prompt. Needs the extra `agent`.

    Example: fedloom chat clinic-adapter --question "What is a fever?"
    """
    from fedloom.adapters.local import read_adapter_folder
    from fedloom.cli.chat.asker import Asker

    questions = question or _piped()
    if questions is None and as_json:
        message = "also needs --question, or questions on standard input"
        raise typer.BadParameter(message, param_hint="--json")
    local_adapter = read_adapter_folder(adapter)
    try:
        with open_child(local_adapter, base) as child:
            asker = Asker(child, local_adapter, template, max_new_tokens, temperature)
            with progress_status("starting") as show:
                asker.load(show)
            if questions is None:
                _converse(asker)
            else:
                _answer(asker, questions, as_json=as_json)
    except KeyboardInterrupt:
        output.say("stopped", err=True)
        sys.exit(ExitCode.INTERRUPTED)


def _piped() -> list[str] | None:
    """The questions on standard input. None if it is a terminal."""
    if sys.stdin is None:
        return []
    if sys.stdin.isatty():
        return None
    try:
        return [line.strip() for line in sys.stdin if line.strip()]
    except UnicodeDecodeError as error:
        message = f"standard input is not {sys.stdin.encoding.upper()} text"
        raise typer.BadParameter(message) from error


def _answer(asker: "Asker", questions: Sequence[str], *, as_json: bool) -> None:
    console = output.console()
    for text, answers in zip(questions, asker.answers(questions), strict=True):
        if as_json:
            fields = {"question": text, "base": answers.base.text, "adapted": answers.adapted.text}
            output.print_json_line(fields)
        elif console.is_terminal:
            console.print(text, style="bold")
            console.print(answers)
        else:
            columns = "".join(f"\n[{column.title}]\n{column.text}\n" for column in (answers.base, answers.adapted))
            output.say(f"{PROMPT}{text}{columns}")


def _converse(asker: "Asker") -> None:
    """Read questions from the terminal and answer them until /quit or Ctrl-D."""
    from agent.errors import TaskFailed

    console = output.console()
    output.say("Each question stands alone. /quit or Ctrl-D exits, Ctrl-C stops an answer.")
    for number, text in enumerate(_typed()):
        try:
            asker.show(text, console, seed=number)
        except KeyboardInterrupt:
            output.say("stopped; the model is loaded again for the next question")
        except TaskFailed as error:
            output.say(f"fedloom: {error}", err=True)


def _typed() -> Iterator[str]:
    """The typed lines, without empty ones."""
    with suppress(ImportError):  # Windows lacks it; its terminal edits lines itself
        import readline  # noqa: F401  - gives input() line editing and a history
    while True:
        try:
            line = input(PROMPT).strip()
        except (EOFError, KeyboardInterrupt):
            output.say()
            return
        if line == "/quit":
            return
        if line:
            yield line
