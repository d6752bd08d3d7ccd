"""Scores completions by their likelihood."""

import sys

from agent.data.rows import Row
from agent.errors import TaskFailed
from agent.orders.on_base.score import Scored, ScoreRequest
from agent.train.data.rendering.templates import Renderer
from agent.train.data.tokenizing import TextTokenizer
from agent.train.data.tokens import TokenRows
from agent.train.local.model import find_model, loaded_model
from agent.train.order_context import OrderContext
from agent.train.trainer.scoring import log_probabilities
from shared.wire.tasks.leases import FailureKind, Phase, Progress


def score(order: ScoreRequest, context: OrderContext) -> Scored:
    """Compute the log-probabilities of the completions under the base model, or with the adapter on it.

    Raises TaskFailed: data if a prompt leaves no room for its completion, or if the template changes that, others as
    ``answer`` does.
    """
    files = find_model(order, context)
    renderer = Renderer(order.template, files.tokenizer)
    texts = [renderer.render(Row(row.prompt, row.input, completion=row.completion)) for row in order.rows]
    if n_changed := sum(text.omissions.completion or text.omissions.mixes_turns for text in texts):
        message = f"the template drops part of the completion of {n_changed} rows, or changes it: use another template"
        raise TaskFailed(FailureKind.DATA, message)
    token_rows = list(TextTokenizer(files.tokenizer, sys.maxsize).rows(texts))
    room, n_embeddings = (limit or sys.maxsize for limit in (files.limits.n_positions, files.limits.n_embeddings))
    usable = [row for row in token_rows if row is not None and len(row[0]) <= room and max(row[0]) < n_embeddings]
    if len(usable) < len(texts):
        message = (
            f"{len(texts) - len(usable)} of the rows are empty, longer than the base model's {room} positions, or have "
            "tokens that it has no embedding for"
        )
        raise TaskFailed(FailureKind.DATA, message)
    rows, total = TokenRows.of(usable), len(texts)
    with loaded_model(order, context, files, order.adapter, scored=rows) as (base, model):
        context.report(Progress(phase=Phase.EVALUATING, total=total))
        log_probs = log_probabilities(
            model,
            base.language_model,
            rows,
            micro_batch=order.micro_batch,
            autocast_dtype=base.autocast_dtype,
            report=lambda done: context.report(Progress(phase=Phase.EVALUATING, done=done, total=total)),
        )  # (rows,)
    return Scored(log_probs=log_probs.tolist(), n_tokens=rows.n_supervised.tolist())
