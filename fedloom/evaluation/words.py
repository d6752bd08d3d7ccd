"""Numbers of an evaluation as text: as tables, the page and the CSV file have them."""

from collections.abc import Iterator

from fedloom.evaluation.statistics.averages import AverageValue
from fedloom.evaluation.statistics.intervals import Confidence
from fedloom.evaluation.statistics.numbers import Number
from fedloom.evaluation.statistics.pairs import Difference
from fedloom.evaluation.tasks.base import COMPARED_WITH, TaskMetric

_LARGE = 1e6


def value_in_words(number: Number) -> str:
    """A value with half of its interval's width: ``41.2 ± 3.1``, in per cent where the metric is a share."""
    if number.value is None:
        return "first" if number.not_run == COMPARED_WITH else "not run"
    return amount_in_words(number.value, number.confidence, number.metric)


def average_in_words(found: AverageValue) -> str:
    """A mean over tasks as a value, or why there is none."""
    if found.value is None:
        return f"not run: {found.not_run}"
    return amount_in_words(found.value, found.confidence, found.average.metric)


def amount_in_words(value: float, confidence: Confidence | None, metric: TaskMetric) -> str:
    """A value, with half of the width of its interval if it has one."""
    text = _figure(value, metric)
    if confidence is None:
        return text
    return f"{text} ± {_figure((confidence.high - confidence.low) / 2, metric)}"


def _figure(value: float, metric: TaskMetric, sign: str = "") -> str:
    """A value with the digits of its metric; perplexities may be too large for these."""
    shown = in_unit(value, metric)
    return f"{shown:{sign}.3g}" if abs(shown) >= _LARGE else f"{shown:{sign}z.{digits_of(metric)}f}"


def interval_in_words(confidence: Confidence | None, metric: TaskMetric, sign: str = "") -> str:
    """An interval at 95 %: ``38.1 to 44.3``; empty if there is none. sign: ``+`` for differences."""
    if confidence is None:
        return ""
    return f"{_figure(confidence.low, metric, sign)} to {_figure(confidence.high, metric, sign)}"


def change_in_words(difference: Difference) -> str:
    """A difference with its sign; a star where its interval does not contain zero."""
    if difference.value is None:
        return ""
    text = _figure(difference.value, difference.metric, "+")
    confidence = difference.confidence
    return f"{text}*" if confidence is not None and (confidence.low > 0 or confidence.high < 0) else text


def items_in_words(number: Number) -> str:
    """How many items a number is of: ``20 of 14,042``; the asked ones too where not all of them count."""
    asked = f" of {number.n_asked:,} asked" if number.n < number.n_asked else ""
    return f"{number.n:,}{asked}{f' of {number.n_published:,}' if number.n_published else ''}"


def remarks(number: Number, n_shown: int = 3) -> str:
    """What happened to items: flags with their share, and those that do not count, by reason."""
    found = [f"{flag} {number.share(flag):.0%}" for flag in number.flags]
    reasons = list(number.problems.items())
    found += [f"{count:,} not counted: {problem}" for problem, count in reasons[:n_shown]]
    others = sum(count for _, count in reasons[n_shown:])
    return "; ".join([*found, *([f"{others:,} not counted for other reasons"] if others else [])])


def pairs_in_words(difference: Difference, number: Number) -> str:
    """What a difference is over, where that is not what the number is over; empty if it is."""
    return "; ".join(_pairs(difference, number))


def _pairs(difference: Difference, number: Number) -> Iterator[str]:
    if difference.not_compared:
        yield difference.not_compared
    elif difference.n < number.n:
        yield f"difference over the {difference.n:,} items that count for both"
    if difference.n_asked_otherwise:
        yield f"{difference.n_asked_otherwise:,} asked with another prompt"


def in_unit(value: float, metric: TaskMetric) -> float:
    """A value as it is shown: a share in per cent."""
    return round(100 * value, 10) if metric.is_share else value


def digits_of(metric: TaskMetric) -> int:
    """Digits after the point."""
    return 1 if metric.is_share else 2
