"""What terminal and page say alike: values, differences and sentences."""

from collections.abc import Iterator

from fedloom.cli import output
from fedloom.cli.agent.report.numbers import Difference, ModelNumbers, ReportNumbers, Value, longest_unmatched
from shared.metrics import Metric

ANSWERS = 10
"""Rows whose answers are shown side by side."""
_NAMES_SHOWN = 10
HOLDS_ROWS = "It quotes held-out rows and what models answer to them. It is meant for the owner of the data only."


def setup(numbers: ReportNumbers) -> str:
    """Which rows the numbers are of."""
    n, asked = numbers.n_held_out, numbers.n_asked
    which = "all of them are" if asked == n else f"{asked:,} of them, drawn at random and always the same, are"
    return f"on {n:,} of your own held-out rows; {which} answered, greedily"


def change_of(model: ModelNumbers, than: ModelNumbers | None, loss: Metric) -> str:
    """How the loss of a model compares with another's: "5.2% better"; empty without another."""
    from agent.owner.losses import change

    return change(loss, model.loss, than.loss) if than is not None and than is not model else ""


def exact(model: ModelNumbers) -> str:
    """How many answers are exact."""
    share = model.exact
    return f"{share.n_right:,} of {share.n:,}" if share is not None else ""


def exact_interval(model: ModelNumbers) -> str:
    """The share of exact answers with its interval."""
    share = model.exact
    if share is None:
        return ""
    low, high = share.confidence.low, share.confidence.high
    return f"{share.n_right / share.n:.1%} ({low:.1%} to {high:.1%})"


def own(value: Value | None) -> str:
    """A value of the owner's metric with its interval."""
    if value is None:
        return ""
    between = f" ({value.confidence.low:.4g} to {value.confidence.high:.4g})" if value.confidence else ""
    return f"{value.value:.4g}{between}"


def difference_lines(difference: Difference, own_name: str) -> Iterator[tuple[str, str]]:
    """What differs, and by how much: each with its interval."""
    if difference.loss is not None:
        yield "held-out loss", _signed(difference.loss, "+.4f")
    if difference.exact is not None:
        scaled = difference.exact
        yield "exact answers", f"{_signed(scaled, '+.1%')}"
    if difference.own is not None:
        yield own_name, _signed(difference.own, "+.4g")


def _signed(value: Value, form: str) -> str:
    between = ""
    if value.confidence is not None:
        between = f" ({value.confidence.low:{form}} to {value.confidence.high:{form}})"
    return f"{value.value:{form}}{between}"


def verdict(numbers: ReportNumbers) -> str:
    """What the owner gains, in a sentence."""
    best, alone, base = numbers.best, numbers.named("alone"), numbers.named("base")
    if best is None or base is None:
        return "no adapter has a loss that is a number"
    parts = [f"{change_of(best, base, numbers.loss)} {_than(best, base, numbers.loss)} the base model"]
    if alone is not None:
        parts.append(
            f"{change_of(best, alone, numbers.loss)} {_than(best, alone, numbers.loss)} the model trained alone"
        )
    unsure = _is_unsure(best, "alone" if alone is not None else "base")
    return f"{best.name} is the best adapter for you: {' and '.join(parts)}{unsure}"


def _than(model: ModelNumbers, other: ModelNumbers, loss: Metric) -> str:
    return "as" if change_of(model, other, loss) == "the same" else "than"


def _is_unsure(model: ModelNumbers, than: str) -> str:
    """Whether the difference in loss could be chance in the choice of rows."""
    for difference in model.differences:
        found = difference.loss
        interval = found.confidence if difference.than == than and found is not None else None
        if interval is not None and interval.low <= 0 <= interval.high:
            return "; with so few rows, the latter may be chance: its interval has 0 in it"
    return ""


def notes(numbers: ReportNumbers, max_new_tokens: int) -> Iterator[str]:
    """What a reader must know of the numbers."""
    if numbers.loss.unit:
        yield f"losses in {numbers.loss.unit}; lower is better"
    yield "differences are over the rows that were answered, with intervals at 95 %"
    if numbers.report.no_alone:
        yield f"no model trained alone: {numbers.report.no_alone}"
    else:
        alone = numbers.report.alone
        assert alone is not None
        rounds = alone.model.number
        yield (
            f"alone: {rounds} round{'s' if rounds != 1 else ''} and {numbers.report.alone_steps:,} steps on your own "
            "rows, as many as you took part in, from the same start"
        )
    if missing := numbers.report.missing:
        yield f"not on this machine, so not compared: adapter {output.some_of(list(map(str, missing)), _NAMES_SHOWN)}"
    if numbers.n_unanswered:
        yield f"{_rows(numbers.n_unanswered)} too long to be answered"
    if not numbers.report.subject.has_expected_answers:
        yield "no exact answers: a row's completion may be one to avoid"
    elif n := longest_unmatched(numbers, max_new_tokens):
        yield (
            f"{n:,} expected answers are longer than {max_new_tokens} tokens, so that no answer can be exact there; "
            "--max-new-tokens raises it"
        )


def loss_text(model: ModelNumbers) -> str:
    """A model's held-out loss."""
    return output.loss(model.loss)


def _rows(n: int) -> str:
    return f"{n:,} row{'s' if n != 1 else ''}"
