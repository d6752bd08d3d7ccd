"""Who gains by a campaign and who loses, by round, as far as owners tell it."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from fedloom.cli import output
from shared.metrics import Metric
from shared.text.plain_text import visible_line
from shared.wire.gains import GainView

ROUNDS_SHOWN = 3
NAMES_SHOWN = 5
_LARGE_SHARE = 10.0  # of a loss near zero; the percentage says nothing then


def print_gains(console: Console, gains: Sequence[GainView], loss: Metric, n_rounds: int | None) -> None:
    """Print a line of each round with what its adapter is to owners, beside what each had trained alone.

    Args:
        console: the terminal.
        gains: of all rounds.
        loss: what the held-out loss is.
        n_rounds: most rounds to show; None for all.
    """
    if not gains:
        return
    by_round = by_rounds(gains)
    numbers = sorted(by_round)
    shown = numbers[-n_rounds:] if n_rounds is not None else numbers
    table = output.table("ROUND", "OWNERS", "GAIN", "LOSE", right=["ROUND", "OWNERS"], fold=["GAIN", "LOSE"])
    for number in shown:
        told = by_round[number]
        gaining, losing = (_names(told, loss, is_worse=is_worse) for is_worse in (False, True))
        table.add_row(str(number), str(len(told)), gaining, losing)
    console.print()
    console.print(Text("what owners gain", style="bold"))
    console.print(table)
    rest = f"; {len(numbers) - len(shown)} earlier rounds, --all shows them" if len(shown) < len(numbers) else ""
    console.print(f"held-out loss of the adapter beside that of a model trained alone{rest}", style="dim")


def by_rounds(gains: Iterable[GainView]) -> Mapping[int, list[GainView]]:
    """The gains by round."""
    found: dict[int, list[GainView]] = {}
    for gain in gains:
        found.setdefault(gain.round, []).append(gain)
    return found


def _names(gains: Sequence[GainView], loss: Metric, *, is_worse: bool) -> str:
    """Who gains or loses, the most first, each with how much of the loss alone that is."""
    of = [each for each in gains if loss.text(each.adapter) != loss.text(each.alone)]
    of = [each for each in of if loss.is_worse(each.adapter, each.alone) is is_worse]
    of.sort(key=lambda each: -abs(each.adapter - each.alone))
    return output.some_of([f"{visible_line(each.agent_name)}{_share(each)}" for each in of], NAMES_SHOWN)


def _share(gain: GainView) -> str:
    if not gain.alone:
        return ""
    share = abs(gain.adapter - gain.alone) / abs(gain.alone)
    return f" {share:.1%}" if share < _LARGE_SHARE else " much"
