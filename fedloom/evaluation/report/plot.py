"""A number as a dot with its interval, as SVG in its row. All rows of a metric have one axis."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedloom.evaluation.statistics.numbers import Number
from fedloom.evaluation.words import in_unit

_WIDTH, _HEIGHT, _EDGE = 190, 22, 6


@dataclass(frozen=True)
class Axis:
    """What a metric's plots reach from and to."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """The place of a value."""
        return round(_EDGE + (_WIDTH - 2 * _EDGE) * (value - self.low) / (self.high - self.low), 1)


def axis_of(numbers: Sequence[Number]) -> Axis | None:
    """From 0 to 100 per cent for shares; otherwise all that is drawn, with some room. None if nothing is drawn."""
    drawn = [number.value for number in numbers if number.value is not None]
    drawn += [end for number in numbers if (c := number.confidence) is not None for end in (c.low, c.high)]
    if not drawn:
        return None
    if numbers[0].metric.is_share:
        return Axis(0.0, 1.0)
    room = 0.05 * (max(drawn) - min(drawn)) or 0.05 * abs(max(drawn)) or 1.0
    return Axis(min(drawn) - room, max(drawn) + room)


def ends_in_words(axis: Axis, number: Number) -> str:
    """What the axis reaches from and to, in the metric's unit."""
    low, high = (f"{in_unit(end, number.metric):.4g}" for end in (axis.low, axis.high))
    return f"{low} to {high}"


def plot(number: Number, axis: Axis) -> str:
    """The plot of one number; empty if it has no value."""
    if number.value is None:
        return ""
    middle = _HEIGHT / 2
    parts = [
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="value with its interval">',
        f'<line class="axis" x1="{_EDGE}" x2="{_WIDTH - _EDGE}" y1="{middle}" y2="{middle}"/>',
    ]
    chance = number.metric.chance
    if chance is not None and axis.low <= chance <= axis.high:
        ends = f'x1="{axis.x(chance)}" x2="{axis.x(chance)}" y1="0" y2="{_HEIGHT}"'
        parts.append(f'<line class="chance" {ends}><title>chance</title></line>')
    if (confidence := number.confidence) is not None:
        ends = f'x1="{axis.x(confidence.low)}" x2="{axis.x(confidence.high)}"'
        parts.append(f'<line class="bar" stroke-width="2" {ends} y1="{middle}" y2="{middle}"/>')
    parts.append(f'<circle class="dot" r="4" cx="{axis.x(number.value)}" cy="{middle}"/></svg>')
    return "".join(parts)
