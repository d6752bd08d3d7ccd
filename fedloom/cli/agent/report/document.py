"""A report as one JSON document."""

from typing import TYPE_CHECKING, Any

from fedloom.cli.agent.report import words
from fedloom.cli.agent.report.numbers import Difference, ModelNumbers, ReportNumbers, Share, Value

if TYPE_CHECKING:
    from agent.record.gains import Gain


def document_of(numbers: ReportNumbers, sent: "list[Gain]", not_sent: str, told: "list[Gain]") -> dict[str, Any]:
    """All numbers, ten rows with their answers, and what was sent.

    Args:
        numbers: the report's.
        sent: what left now.
        not_sent: why nothing, or not all, was sent; empty if all was.
        told: what left of this campaign by now, also by earlier reports.
    """
    known = numbers.report.subject.known
    return {
        "campaign": {"id": known.id, "name": known.name, "spec_sha256": known.spec_sha256},
        "loss": {"unit": numbers.loss.unit},
        "n_held_out": numbers.n_held_out,
        "n_asked": numbers.n_asked,
        "n_unanswered": numbers.n_unanswered,
        "models": [_model(each) for each in numbers.models],
        "best": numbers.best.measured.model.number if numbers.best is not None else None,
        "alone_steps": numbers.report.alone_steps,
        "missing": [*numbers.report.missing],
        "no_alone": numbers.report.no_alone or None,
        "answers": [_row(numbers, place) for place in range(min(words.ANSWERS, numbers.n_asked))],
        "sent": [
            {"adapter": each.number, "sha256": each.adapter, "losses": [each.base, each.alone, each.loss]}
            for each in sent
        ],
        "not_sent": not_sent or None,
        "told": [_sent(each) | {"sent_at": each.sent_at.isoformat() if each.sent_at else None} for each in told],
    }


def _sent(gain: "Gain") -> dict[str, Any]:
    return {"adapter": gain.number, "sha256": gain.adapter, "base": gain.base, "alone": gain.alone, "loss": gain.loss}


def _model(numbers: ModelNumbers) -> dict[str, Any]:
    model = numbers.measured.model
    return {
        "name": numbers.name,
        "kind": model.kind,
        "number": model.number if model.kind == "adapter" else None,
        "sha256": model.sha256,
        "metrics": numbers.measured.found.metrics,
        "exact": _share(numbers.exact),
        "own_metric": _value(numbers.own),
        "differences": [_difference(each) for each in numbers.differences],
    }


def _difference(difference: Difference) -> dict[str, Any]:
    found = {"loss": difference.loss, "exact": difference.exact, "own_metric": difference.own}
    return {"than": difference.than, **{name: _value(value) for name, value in found.items()}}


def _share(share: Share | None) -> dict[str, Any] | None:
    if share is None:
        return None
    interval = {"low": share.confidence.low, "high": share.confidence.high}
    return {"n_right": share.n_right, "n": share.n, "value": share.n_right / share.n, **interval}


def _value(value: Value | None) -> dict[str, Any] | None:
    if value is None:
        return None
    found = value.confidence
    return {"value": value.value, "low": found.low if found else None, "high": found.high if found else None}


def _row(numbers: ReportNumbers, place: int) -> dict[str, Any]:
    first = numbers.models[0].measured.rows[place]
    answers = {each.name: each.measured.rows[place].answer for each in numbers.models}
    return {"place": first.place, "question": first.question, "expected": first.expected, "answers": answers}
