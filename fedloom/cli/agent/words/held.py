"""A held update in words for its owner: how large it is beside earlier ones, and what it changes."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from fedloom.cli import output
from shared.text.plain_text import visible
from shared.text.unsafe import shorten

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from agent.orders.review import ComparedAnswer, Reviewed
    from agent.record.held import HeldUpdate

_ROUNDS_SHOWN = 8
"""Most earlier rounds whose norms are shown."""
_CHARACTERS_SHOWN = 400
"""Most characters of a prompt, and of an answer."""


def print_update(console: "Console", update: "HeldUpdate", norms: Mapping[int, float]) -> None:
    """Print a held update.

    Args:
        console: the terminal.
        update: the update.
        norms: of the campaign's updates, by round.
    """
    table = _table()
    table.add_row("campaign", update.job.campaign_name)
    steps = f"{update.job.steps} step{'' if update.job.steps == 1 else 's'}"
    table.add_row("round", f"{update.round}, {steps}")
    table.add_row("held", _since(update))
    table.add_row("norm", norms_in_words(norms, update.round))
    for title, words in _compared(update.review):
        table.add_row(title, words)
    console.print(table)
    for number, answer in enumerate(update.review.answers if update.review is not None else (), start=1):
        console.print()
        console.print(_answer(number, answer))


def norms_in_words(norms: Mapping[int, float], number: int) -> str:
    """The norm of a round's update, and those of the latest rounds before it. norms: by round, in their order."""
    own = f"{norms[number]:.3g}" if number in norms else "not known"
    earlier = [each for each in norms if each < number][-_ROUNDS_SHOWN:]
    if not earlier:
        return f"{own}; no round before it"
    are_neighbours = len(earlier) > 1 and earlier[-1] - earlier[0] == len(earlier) - 1
    named = f"{earlier[0]}-{earlier[-1]}" if are_neighbours else ", ".join(map(str, earlier))
    title = "round" if len(earlier) == 1 else "rounds"
    return f"{own}; {title} {named}: {', '.join(f'{norms[each]:.3g}' for each in earlier)}"


def _since(update: "HeldUpdate") -> str:
    since = f"since {output.since(update.held_at)}"
    if update.released_at is not None:
        return f"{since}; released {output.ago(update.released_at)}, and not sent yet"
    if update.release_at is not None:
        return f"{since}; it goes by itself at {update.release_at.astimezone():%Y-%m-%d %H:%M}"
    return f"{since}, until you release it"


def _compared(review: "Reviewed | None") -> Iterator[tuple[str, str]]:
    if review is None:
        yield "held-out loss", "not compared yet; the agent does that while it runs, before its next task"
        return
    if review.loss_before is not None and review.loss_after is not None:
        before, after = (output.loss(each) for each in (review.loss_before, review.loss_after))
        rows = f"{review.n_rows:,} held-out row{'' if review.n_rows == 1 else 's'}"
        yield "held-out loss", f"{before} before, {after} after ({review.unit}, on your {rows})"
    if review.problem:
        yield "not compared", visible(review.problem)


def _answer(number: int, answer: "ComparedAnswer") -> "Table":
    from rich.text import Text

    table = _table()
    for title, words in ((f"prompt {number}", answer.prompt), ("before", answer.before), ("after", answer.after)):
        shown = visible(shorten(words.strip(), _CHARACTERS_SHOWN).expandtabs(4))
        table.add_row(title, Text(shown) if shown else Text("(nothing)", style="dim"))
    return table


def _table() -> "Table":
    table = output.table("", "", fold=[""])
    table.show_header = False
    table.columns[0].no_wrap, table.columns[0].min_width = True, len("held-out loss")
    table.columns[1].no_wrap, table.columns[1].overflow = False, "fold"
    return table
