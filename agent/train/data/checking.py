"""Checks an owner's data with the tokenizer of a campaign's base model: what is trained on, token by token."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from agent.child import CheckRequest
from agent.data.checking import CollectedData, LocatedRow, choose_examples, collect
from agent.data.own_template import template_of
from agent.data.report import DataReport, Example, ShownCompletion, Span, Spread, Tokens
from agent.data.rows import Pair
from agent.errors import TaskFailed
from agent.train.base.source import Reporter
from agent.train.data.templates import check
from agent.train.data.tokens import Form, TokenizedRow, Tokenizing, TokenRow, tokenize_completions
from shared.wire.leases import Phase, Progress

_BATCH = 256


def check_data(order: CheckRequest, tokenizer: Any, report: Reporter) -> DataReport:
    """The report on the data of *order*. Raises TaskFailed (data) where the template cannot be used at all."""
    form = template_of(order.data, order.template)
    check(form, tokenizer)
    found = collect(order.data, order.kind)
    plain = found.report(order.name, order.data, order.kind)
    tokenizing = Tokenizing(tokenizer, order.max_length)
    total, done = len(found.train) + len(found.held_out), 0
    parts: list[list[tuple[LocatedRow, TokenizedRow]]] = []
    for rows in (found.train, found.held_out):
        usable = []
        for begin in range(0, len(rows), _BATCH):
            some = rows[begin : begin + _BATCH]
            for one, completions in _tokenized(some, form, tokenizing, order, found):
                if completions.skip_reason:
                    found.skipped[completions.skip_reason] += 1
                else:
                    usable.append((one, completions))
            done += len(some)
            report(Progress(phase=Phase.TOKENIZING, done=done, total=total))
        parts.append(usable)
    train, held_out = parts
    used = [completions for part in parts for _, completions in part]
    shown = {id(one) for one in choose_examples([one for one, _ in train])}
    return plain.model_copy(
        update={
            "train": len(train),
            "held_out": len(held_out),
            "skipped": dict(found.skipped.most_common()),
            "errors": found.problems,
            "n_errors": found.n_errors,
            "tokens": Tokens(
                model=order.base.model,
                template=form if isinstance(form, str) else form.name,
                max_length=order.max_length,
                lengths=Spread.of(len(tokens) for completions in used for tokens, _ in completions.whole),
                supervised=Spread.of(sum(supervised) for completions in used for _, supervised in completions.whole),
                cut=sum(any(len(tokens) > order.max_length for tokens, _ in completions.whole) for completions in used),
            ),
            "examples": [_example(one, completions, tokenizer) for one, completions in train if id(one) in shown],
        }
    )


def _tokenized(
    rows: Sequence[LocatedRow], form: Form, tokenizing: Tokenizing, order: CheckRequest, found: CollectedData
) -> Iterator[tuple[LocatedRow, TokenizedRow]]:
    """The rows with their tokens, but for those that the template refuses, which are errors."""
    try:
        yield from list(zip(rows, tokenize_completions([one.row for one in rows], form, tokenizing), strict=True))
    except TaskFailed as error:
        if len(rows) == 1:
            found.add_error(order.data, rows[0].place, f": {error}")
            return
        for one in rows:
            yield from _tokenized([one], form, tokenizing, order, found)


def _example(one: LocatedRow, completions: TokenizedRow, tokenizer: Any) -> Example:
    names = ("chosen", "rejected") if isinstance(one.row, Pair) else ("",)
    shown = [
        ShownCompletion(name=name, spans=list(_spans(row, tokenizer)), cut=len(whole[0]) - len(row[0]))
        for name, row, whole in zip(names, completions.rows, completions.whole, strict=True)
    ]
    return Example(place=one.place, completions=shown)


def _spans(row: TokenRow, tokenizer: Any) -> Iterator[Span]:
    """The text of the tokens, as it stands in the row, by whether it is learnt."""
    for supervised, tokens in groupby(zip(*row, strict=True), key=lambda token: token[1]):
        text = tokenizer.decode([token for token, _ in tokens], clean_up_tokenization_spaces=False)
        yield Span(text=text, supervised=supervised)
