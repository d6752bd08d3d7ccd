"""Checks an owner's data with the tokenizer of a campaign's base model: what is trained on, token by token."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from agent.data.checks.checking import choose_examples, collect, completion_names
from agent.data.checks.report import DataReport, Example, ShownCompletion, Span, Spread, Tokens
from agent.data.own_template import template_of
from agent.installed import load_kind
from agent.orders.check import CheckRequest
from agent.train.base.limits import InputLimits
from agent.train.data.panics import panics_as_errors
from agent.train.data.row_tokenizer import BATCH, RowTokenizer, TokenizedRow
from agent.train.data.tokens import TokenRow
from agent.train.progress import Reporter
from shared.kinds import Kind
from shared.wire.tasks.leases import Phase, Progress


def check_data(order: CheckRequest, tokenizer: Any, limits: InputLimits, report: Reporter) -> DataReport:
    """Report on the data of *order*. Raises TaskFailed (data) if the template cannot be used at all."""
    template = template_of(order.data, order.template)
    today = datetime.now(UTC).date()
    rows_tokenizer = RowTokenizer(
        order.data, template, order.max_length, tokenizer, limits, today, which_day="; this check uses today"
    )
    kind = load_kind(order.kind)
    collected = collect(order.data, kind)
    without_tokens = collected.report(order.name, order.data, kind)
    total, done = len(collected.train) + len(collected.held_out), 0
    parts: list[list[TokenizedRow]] = []
    for rows in (collected.train, collected.held_out):
        usable = []
        for begin in range(0, len(rows), BATCH):
            batch = rows[begin : begin + BATCH]
            for row in rows_tokenizer.tokenize(batch):
                if row.error:
                    collected.errors.add(row.located.label, row.located.place, row.error)
                elif row.skip_reason:
                    collected.skipped[row.skip_reason] += 1
                else:
                    usable.append(row)
            done += len(batch)
            report(Progress(phase=Phase.TOKENIZING, done=done, total=total))
        parts.append(usable)
    notices = rows_tokenizer.notices()
    train, held_out = parts
    full_rows = [full for part in parts for row in part for full in row.full]
    shown = {id(located) for located in choose_examples([row.located for row in train])}
    return without_tokens.model_copy(
        update={
            "train": len(train),
            "held_out": len(held_out),
            "skipped": dict(collected.skipped.most_common()),
            "errors": collected.errors.problems,
            "n_errors": collected.errors.total,
            "notices": [*collected.notices.problems, *notices.problems],
            "tokens": Tokens(
                model=order.model.base.model,
                template=template if isinstance(template, str) else template.name,
                max_length=order.max_length,
                lengths=Spread.of(len(tokens) for tokens, _ in full_rows),
                supervised=Spread.of(sum(supervised) for _, supervised in full_rows),
                cut=sum(
                    any(len(tokens) > order.max_length for tokens, _ in row.full) for part in parts for row in part
                ),
            ),
            "examples": [_example(row, kind, tokenizer) for row in train if id(row.located) in shown],
        }
    )


def _example(row: TokenizedRow, kind: Kind, tokenizer: Any) -> Example:
    completions = [
        ShownCompletion(name=name, spans=list(_spans(truncated, tokenizer)), cut=len(full[0]) - len(truncated[0]))
        for name, truncated, full in zip(completion_names(kind), row.truncated, row.full, strict=True)
    ]
    return Example(place=row.located.place, completions=completions)


def _spans(row: TokenRow, tokenizer: Any) -> Iterator[Span]:
    """The text of a row's tokens, in stretches that are supervised or not."""
    for supervised, tokens in groupby(zip(*row, strict=True), key=lambda token: token[1]):
        with panics_as_errors():
            text = tokenizer.decode([token for token, _ in tokens], clean_up_tokenization_spaces=False)
        yield Span(text=text, supervised=supervised)
