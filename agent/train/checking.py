"""Checks an owner's data with the tokenizer of a campaign's base model: what is trained on, token by token."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from agent.checking import Gathered, Placed, gather, spread_out
from agent.child import Check
from agent.data_report import DataReport, Example, Piece, Side, Spread, Tokens
from agent.errors import TaskFailed
from agent.own_template import template_of
from agent.rows import Pair
from agent.train.source import Reporter
from agent.train.templates import check
from agent.train.tokens import Form, Sides, Tokenizing, TokenRow, sides_of
from shared.wire.leases import Phase, Progress

_BATCH = 256


def check_data(order: Check, tokenizer: Any, report: Reporter) -> DataReport:
    """The report on the data of *order*. Raises TaskFailed (data) where the template cannot be used at all."""
    form = template_of(order.data, order.template)
    check(form, tokenizer)
    found = gather(order.data, order.kind)
    plain = found.report(order.name, order.data, order.kind)
    tokenizing = Tokenizing(tokenizer, order.max_length)
    total, done = len(found.train) + len(found.held_out), 0
    parts: list[list[tuple[Placed, Sides]]] = []
    for rows in (found.train, found.held_out):
        usable = []
        for begin in range(0, len(rows), _BATCH):
            some = rows[begin : begin + _BATCH]
            for one, sides in _tokenized(some, form, tokenizing, order, found):
                if sides.left_out:
                    found.left_out[sides.left_out] += 1
                else:
                    usable.append((one, sides))
            done += len(some)
            report(Progress(phase=Phase.TOKENIZING, done=done, total=total))
        parts.append(usable)
    train, held_out = parts
    used = [sides for part in parts for _, sides in part]
    shown = {id(one) for one in spread_out([one for one, _ in train])}
    return plain.model_copy(
        update={
            "train": len(train),
            "held_out": len(held_out),
            "left_out": dict(found.left_out.most_common()),
            "errors": found.problems,
            "n_errors": found.n_errors,
            "tokens": Tokens(
                model=order.base.model,
                template=form if isinstance(form, str) else form.name,
                max_length=order.max_length,
                lengths=Spread.of(len(tokens) for sides in used for tokens, _ in sides.whole),
                learnt=Spread.of(sum(learnt) for sides in used for _, learnt in sides.whole),
                cut=sum(any(len(tokens) > order.max_length for tokens, _ in sides.whole) for sides in used),
            ),
            "examples": [_example(one, sides, tokenizer) for one, sides in train if id(one) in shown],
        }
    )


def _tokenized(
    rows: Sequence[Placed], form: Form, tokenizing: Tokenizing, order: Check, found: Gathered
) -> Iterator[tuple[Placed, Sides]]:
    """The rows with their tokens, but for those that the template refuses, which are errors."""
    try:
        yield from list(zip(rows, sides_of([one.row for one in rows], form, tokenizing), strict=True))
    except TaskFailed as error:
        if len(rows) == 1:
            found.error(order.data, rows[0].place, f": {error}")
            return
        for one in rows:
            yield from _tokenized([one], form, tokenizing, order, found)


def _example(one: Placed, sides: Sides, tokenizer: Any) -> Example:
    names = ("chosen", "rejected") if isinstance(one.row, Pair) else ("",)
    shown = [
        Side(name=name, pieces=list(_pieces(row, tokenizer)), cut=len(whole[0]) - len(row[0]))
        for name, row, whole in zip(names, sides.rows, sides.whole, strict=True)
    ]
    return Example(place=one.place, sides=shown)


def _pieces(row: TokenRow, tokenizer: Any) -> Iterator[Piece]:
    """The text of the tokens, as it stands in the row, by whether it is learnt."""
    for learnt, tokens in groupby(zip(*row, strict=True), key=lambda token: token[1]):
        text = tokenizer.decode([token for token, _ in tokens], clean_up_tokenization_spaces=False)
        yield Piece(text=text, learnt=learnt)
