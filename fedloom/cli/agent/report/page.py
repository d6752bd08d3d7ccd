"""A report as one self-contained page, in the look of the evaluation's. It needs nothing from outside."""

from html import escape
from typing import TYPE_CHECKING

from fedloom.cli.agent.report import words
from fedloom.cli.agent.report.numbers import ModelNumbers, ReportNumbers
from fedloom.evaluation.report.markup import cell, digest, row, table, text
from fedloom.evaluation.report.style import STYLE
from shared.text.plain_text import visible
from shared.text.unsafe import shorten

if TYPE_CHECKING:
    from datetime import datetime

_OWN_STYLE = """
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: .7rem;
  margin: .6rem 0 1.6rem }
.answers section { background: var(--faint); border-radius: .3rem; padding: .5rem .7rem; min-width: 0 }
.answers h3 { font-size: .8rem; font-weight: 600; margin: 0 0 .2rem; color: var(--soft) }
.answers .best { outline: 1px solid var(--adapter) }
pre { font: .9rem/1.45 system-ui, sans-serif; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 }
.verdict { font-size: 1.1rem } .warn { border-left: 3px solid var(--chance); padding-left: .7rem }
.right { color: #1b7f3b } @media (prefers-color-scheme: dark) { .right { color: #7ee2a0 } }
"""
_LONGEST = 4000
"""Most characters of a question and of an answer."""


def page(numbers: ReportNumbers, max_new_tokens: int, made_at: "datetime") -> str:
    """The whole page. Every text is escaped."""
    known = numbers.report.subject.known
    title = f"What you gain from {text(known.name)}"
    verdict = words.verdict(numbers)
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{title}</title><style>{STYLE}{_OWN_STYLE}</style></head><body><h1>{title}</h1>",
        f'<p class="warn note">This page holds rows. {text(words.HOLDS_ROWS)}</p>',
        f'<p class="verdict">{text(verdict[:1].upper() + verdict[1:])}.</p>',
        _models(numbers),
        *map(_note, (words.setup(numbers), *words.notes(numbers, max_new_tokens))),
        _differences(numbers),
        "<h2>Answers side by side</h2>",
        *(_answers(numbers, place) for place in range(min(words.ANSWERS, numbers.n_asked))),
        f'<p class="note small">Made on {made_at:%Y-%m-%d %H:%M}; campaign {digest(known.spec_sha256)}, base model '
        f"{text(known.spec.base.model)}.</p>",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _note(note: str) -> str:
    return f'<p class="note small">{text(note[:1].upper() + note[1:])}.</p>'


def _models(numbers: ReportNumbers) -> str:
    base, alone = numbers.named("base"), numbers.named("alone")
    columns = [("model", ""), ("held-out loss", "n"), ("vs base", "n")]
    columns += [("vs alone", "n")] if alone is not None else []
    columns += [("exact answers", "n"), ("95 % interval", "n")]
    columns += [(numbers.own_name, "n")] if numbers.own_name else []
    columns.append(("adapter", ""))
    rows = []
    for each in numbers.models:
        name = text(each.name) if each is not numbers.best else f"<b>{text(each.name)}</b>"
        cells = [cell(name), cell(text(words.loss_text(each)), "n")]
        cells.append(cell(text(words.change_of(each, base, numbers.loss)), "n"))
        if alone is not None:
            cells.append(cell(text(words.change_of(each, alone, numbers.loss) if each is not base else ""), "n"))
        cells += [cell(text(words.exact(each)), "n"), cell(text(words.exact_interval(each)), "n")]
        if numbers.own_name:
            cells.append(cell(text(words.own(each.own)), "n"))
        rows.append(row([*cells, cell(digest(each.measured.model.sha256 or ""))]))
    return table(columns, rows)


def _differences(numbers: ReportNumbers) -> str:
    rows = [
        row([cell(text(f"{each.name} − {difference.than}")), cell(text(metric)), cell(text(value), "n")])
        for each in numbers.models
        for difference in each.differences
        for metric, value in words.difference_lines(difference, numbers.own_name)
    ]
    columns = [("difference", ""), ("in", ""), ("with its 95 % interval", "n")]
    return f"<h2>Differences on the same rows</h2>{table(columns, rows)}" if rows else ""


def _answers(numbers: ReportNumbers, place: int) -> str:
    first = numbers.models[0].measured.rows[place]
    parts = [_box("question", first.question), _box("expected", first.expected)]
    parts += [_answer(each, place, is_best=each is numbers.best) for each in numbers.models]
    return f'<h2 class="note">{place + 1}</h2><div class="answers">{"".join(parts)}</div>'


def _answer(model: ModelNumbers, place: int, *, is_best: bool) -> str:
    measured = model.measured.rows[place]
    is_exact = model.exact is not None and measured.answer is not None
    is_exact = is_exact and (measured.answer or "").strip() == measured.expected.strip()
    title = f"{model.name}{' ✓ exact' if is_exact else ''}"
    return _box(title, measured.answer or "", "best" if is_best else "")


def _box(title: str, words: str, kind: str = "") -> str:
    shown = escape(visible(shorten(words.strip(), _LONGEST)))
    body = f"<pre>{shown}</pre>" if shown else '<p class="note small">(nothing)</p>'
    return f'<section class="{kind}"><h3>{text(title)}</h3>{body}</section>'
