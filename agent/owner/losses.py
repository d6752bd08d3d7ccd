"""An owner's own losses by round, from its record: of adapters on its held-out rows, and of its trainings."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from agent.configuration.policy import PolicySettings
from agent.errors import TaskFailed
from agent.installed import load_kind
from agent.policy.disclosure import evaluation_refusals
from agent.record.bookings import WorkKind
from agent.record.campaigns import KnownCampaign
from agent.record.measured import Measurement
from agent.record.record import OwnerRecord
from shared.metrics import HELD_OUT_LOSS, TRAIN_LOSS_MEAN, Metric, Weight, losses

SAME = "the same"
_SHOWN = 12
"""The most rounds of a table."""
_SMALL_SHARE, _ROUND_SHARE, _LARGE_SHARE = 0.001, 0.095, 10.0
"""Shares of a loss: below the first no digit is shown, from the second on none after the point, from the last none."""
_NEARLY_ALL = 0.995
"""The share from which on a digit after the point is shown again: no loss is "100% better" unless it is zero."""


@dataclass(frozen=True)
class OwnLosses:
    """What was measured in a campaign, by round, as far as it still counts.

    Args:
        held_out: measurements of adapters, by their number.
        trained: measurements of trainings, by round.
        loss: what the held-out loss is.
    """

    held_out: Mapping[int, Measurement]
    trained: Mapping[int, Measurement]
    loss: Metric

    @classmethod
    def of(cls, record: OwnerRecord, campaign_id: str, kind: str) -> Self:
        """Read the record. kind: of training. Raises RecordUnusable."""
        return cls(
            held_out={each.round: each for each in record.measured.standing(campaign_id, WorkKind.EVALUATE)},
            trained={each.round: each for each in record.measured.standing(campaign_id, WorkKind.TRAIN)},
            loss=_loss_of(kind),
        )

    def of_adapter(self, number: int) -> float | None:
        """The held-out loss of an adapter; None if it was not evaluated here."""
        return _value(self.held_out, number, HELD_OUT_LOSS)

    def best(self, among: Iterable[int] | None = None) -> int | None:
        """The adapter with the lowest held-out loss, the first of several; None if none was evaluated here.

        among: only these numbers.
        """
        numbers = sorted(self.held_out if among is None else set(among) & set(self.held_out))
        found = [(value, number) for number in numbers if _is_finite(value := self.of_adapter(number))]
        return min(found)[1] if found else None

    def course(self, number: int) -> str:
        """How an adapter compares with the one before and with the first: ", 5.2% better than after round 2 (1.3010)
        and 32% better than at the start (1.8020)"; empty for the first."""
        earlier = [each for each in sorted(self.held_out) if each < number]
        compared = [self._compared(number, than) for than in dict.fromkeys([*earlier[-1:], *earlier[:1]])]
        return f", {' and '.join(compared)}" if compared else ""

    def _compared(self, number: int, than: int) -> str:
        before = self.of_adapter(than)
        shown = self.loss.text(before) if before is not None else "unknown"
        words = change(self.loss, self.of_adapter(number), before)
        return f"{words} {'as' if words == SAME else 'than'} {when(than)} ({shown})"

    def table(self, most: int = _SHOWN) -> list[str]:
        """Lines of at most 60 characters: a heading, and the rounds, the first, the last and the best among them.

        most: rounds that are shown.
        """
        rounds = sorted({*self.held_out, *self.trained})
        if not rounds:
            return []
        best = self.best()
        shown = thinned(rounds, most, keep=best)
        first = min(self.held_out, default=0)
        than = f"than {f'round {first}' if first else 'the start'}" if len(self.held_out) > 1 else ""
        lines = [f"{'':<12}{'train loss':>10}  {'held-out loss':>13}  {than}".rstrip()]
        for number in shown:
            trained, loss = _value(self.trained, number, TRAIN_LOSS_MEAN), self.of_adapter(number)
            note = self._note(number, best)
            label = f"round {number}" if number else "start"
            lines.append(f"{label:<12}{self._cell(trained):>10}  {self._cell(loss):>13}  {note}".rstrip())
        if len(shown) < len(rounds):
            lines.append(f"({len(shown)} of {len(rounds)} are shown)")
        if self.loss.unit:
            lines.append(f"in {self.loss.unit}; lower is better")
        return lines

    def _cell(self, value: float | None) -> str:
        if value is None:
            return ""
        text = self.loss.text(value)
        return text if len(text) <= 13 else f"{value:.4g}"

    def _note(self, number: int, best: int | None) -> str:
        first = min(self.held_out, default=number)
        words = ["best"] if number == best and len(self.held_out) > 1 else []
        if number in self.held_out and number != first:
            words.append(change(self.loss, self.of_adapter(number), self.of_adapter(first)))
        return ", ".join(words)


def change(metric: Metric, now: float | None, before: float | None) -> str:
    """What became of a value: "5.2% better", "much worse", "the same"."""
    if now is None or before is None or not (math.isfinite(now) and math.isfinite(before)):
        return "neither better nor worse"
    if metric.text(now) == metric.text(before):
        return SAME
    word = "worse" if metric.is_worse(now, before) else "better"
    share = abs(now - before) / abs(before) if before else math.inf
    if share >= _LARGE_SHARE:
        return f"much {word}"
    if share < _SMALL_SHARE:
        return f"under 0.1% {word}"
    if share < _ROUND_SHARE or _NEARLY_ALL <= share < 1:
        return f"{min(share, 1 - _SMALL_SHARE):.1%} {word}"
    return f"{share:.0%} {word}"


def when(number: int) -> str:
    """When an adapter was made."""
    return f"after round {number}" if number else "at the start"


def thinned(numbers: list[int], most: int, keep: int | None = None) -> list[int]:
    """Ascending numbers, or if they are more than *most*, some at equal distances with the first, the last and *keep*.

    most: 3 or more.
    """
    if len(numbers) <= most:
        return numbers
    places = most - (keep is not None and keep not in (numbers[0], numbers[-1]))
    step = (len(numbers) - 1) / (places - 1)
    chosen = {numbers[round(place * step)] for place in range(places)}
    return sorted(chosen | ({keep} if keep is not None else set()))


def why_none(known: KnownCampaign, policy: PolicySettings) -> str:
    """Why an owner has no held-out losses of a campaign."""
    if known.spec.evaluation.every == 0:
        return "the campaign evaluates no adapter (evaluation.every = 0)"
    if policy.report == "none":
        return "; ".join(map(str, evaluation_refusals(policy, 0)))
    if known.prepared is not None and known.prepared.n_held_out == 0:
        return "no row is held out"
    if known.prepared is not None and (refusals := evaluation_refusals(policy, known.prepared.n_distinct_held_out)):
        return "; ".join(map(str, refusals))
    return "no adapter has been evaluated here"


def _loss_of(kind: str) -> Metric:
    """The held-out loss of a kind of training, or one without a unit if the kind is no longer installed."""
    try:
        return load_kind(kind).metrics[HELD_OUT_LOSS]
    except (TaskFailed, KeyError):
        return losses("", Weight.ROWS)[0]


def _value(measurements: Mapping[int, Measurement], number: int, name: str) -> float | None:
    found = measurements.get(number)
    return found.metrics.get(name) if found is not None else None


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
