"""Checks an owner's data with the tokenizer of a campaign's base model: what is trained on, token by token."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from agent.data.checking import CollectedData, choose_examples, collect, completion_names
from agent.data.own_template import template_of
from agent.data.report import DataReport, Example, ShownCompletion, Span, Spread, Tokens
from agent.data.rows import LocatedRow
from agent.errors import TaskFailed
from agent.installed import load_kind
from agent.orders.check import CheckRequest
from agent.train.data.templates import AnyTemplate, check_template
from agent.train.data.tokenizing import TextTokenizer, TokenizedRow, tokenize_rows
from agent.train.data.tokens import TokenRow
from agent.train.progress import Reporter
from shared.kinds import Kind
from shared.wire.leases import Phase, Progress

_BATCH = 256  # rows that are tokenised together


def check_data(order: CheckRequest, tokenizer: Any, report: Reporter) -> DataReport:
    """Report on the data of *order*. Raises TaskFailed (data) if the template cannot be used at all."""
    template = template_of(order.data, order.template)
    check_template(template, tokenizer)
    kind = load_kind(order.kind)
    collected = collect(order.data, kind)
    without_tokens = collected.report(order.name, order.data, kind)
    text_tokenizer = TextTokenizer(tokenizer, order.max_length)
    total, done = len(collected.train) + len(collected.held_out), 0
    parts: list[list[tuple[LocatedRow, TokenizedRow]]] = []
    for rows in (collected.train, collected.held_out):
        usable = []
        for begin in range(0, len(rows), _BATCH):
            batch = rows[begin : begin + _BATCH]
            for placed, tokenized in _tokenized(batch, template, text_tokenizer, collected):
                if tokenized.skip_reason:
                    collected.skipped[tokenized.skip_reason] += 1
                else:
                    usable.append((placed, tokenized))
            done += len(batch)
            report(Progress(phase=Phase.TOKENIZING, done=done, total=total))
        parts.append(usable)
    train, held_out = parts
    full_rows = [full for part in parts for _, tokenized in part for full in tokenized.full]
    shown = {id(placed) for placed in choose_examples([placed for placed, _ in train])}
    return without_tokens.model_copy(
        update={
            "train": len(train),
            "held_out": len(held_out),
            "skipped": dict(collected.skipped.most_common()),
            "errors": collected.errors.problems,
            "n_errors": collected.errors.total,
            "notices": collected.notices.problems,
            "tokens": Tokens(
                model=order.model.base.model,
                template=template if isinstance(template, str) else template.name,
                max_length=order.max_length,
                lengths=Spread.of(len(tokens) for tokens, _ in full_rows),
                supervised=Spread.of(sum(supervised) for _, supervised in full_rows),
                cut=sum(
                    any(len(tokens) > order.max_length for tokens, _ in tokenized.full)
                    for part in parts
                    for _, tokenized in part
                ),
            ),
            "examples": [
                _example(placed, tokenized, kind, tokenizer) for placed, tokenized in train if id(placed) in shown
            ],
        }
    )


def _tokenized(
    rows: Sequence[LocatedRow],
    template: AnyTemplate,
    text_tokenizer: TextTokenizer,
    collected: CollectedData,
) -> Iterator[tuple[LocatedRow, TokenizedRow]]:
    """The rows with their tokens. A row that the template refuses is omitted, and recorded as an error."""
    try:
        yield from list(
            zip(rows, tokenize_rows([placed.row for placed in rows], template, text_tokenizer), strict=True)
        )
    except TaskFailed as error:
        if len(rows) == 1:
            collected.errors.add(rows[0].label, rows[0].place, f": {error}")
            return
        for placed in rows:
            yield from _tokenized([placed], template, text_tokenizer, collected)


def _example(placed: LocatedRow, tokenized: TokenizedRow, kind: Kind, tokenizer: Any) -> Example:
    names = completion_names(kind)
    completions = [
        ShownCompletion(name=name, spans=list(_spans(truncated, tokenizer)), cut=len(full[0]) - len(truncated[0]))
        for name, truncated, full in zip(names, tokenized.truncated, tokenized.full, strict=True)
    ]
    return Example(place=placed.place, completions=completions)


def _spans(row: TokenRow, tokenizer: Any) -> Iterator[Span]:
    """The text of a row's tokens, in stretches that are supervised or not."""
    for supervised, tokens in groupby(zip(*row, strict=True), key=lambda token: token[1]):
        text = tokenizer.decode([token for token, _ in tokens], clean_up_tokenization_spaces=False)
        yield Span(text=text, supervised=supervised)
