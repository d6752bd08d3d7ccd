"""Log-likelihoods of raw texts."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agent.orders.on_base.likelihood import LikelihoodRequest, RawScore, RawScored, RollingRequest
from agent.train.base.model import Base
from agent.train.local.model import find_model, loaded_model
from agent.train.local.raw_tokens import RawTokenizer, ScoredTokens
from agent.train.local.targets import TargetScore, score_targets
from agent.train.order_context import OrderContext
from shared.wire.tasks.leases import Phase, Progress


def score_pairs(order: LikelihoodRequest, context: OrderContext) -> RawScored:
    """Score the continuations. Raises TaskFailed if the base model or the adapter cannot be used."""
    files = find_model(order, context)
    raw = RawTokenizer(files.tokenizer, files.limits)
    rows = [raw.pair(pair.context, pair.continuation, apart=pair.apart) for pair in order.pairs]
    with loaded_model(order, context, files, order.adapter) as (base, model):
        scores = _scores(order, context, base, model, rows)
    return RawScored(scores=[_one([row], [score]) for row, score in zip(rows, scores, strict=True)])


def score_texts(order: RollingRequest, context: OrderContext) -> RawScored:
    """Score whole texts. Raises TaskFailed if the base model or the adapter cannot be used."""
    files = find_model(order, context)
    raw = RawTokenizer(files.tokenizer, files.limits)
    windows = [list(raw.windows(text)) for text in order.texts]
    with loaded_model(order, context, files, order.adapter) as (base, model):
        scores = iter(_scores(order, context, base, model, [row for rows in windows for row in rows]))
    return RawScored(scores=[_one(rows, [next(scores) for _ in rows]) for rows in windows])


def _scores(
    order: LikelihoodRequest | RollingRequest,
    context: OrderContext,
    base: Base,
    model: Any,
    rows: Sequence[ScoredTokens],
) -> list[TargetScore]:
    context.warm.longest_row_tokens = max((len(row.read) for row in rows), default=0)
    report = _reporter(context, len(rows))
    report(0)
    return score_targets(model, base, rows, micro_batch=order.micro_batch, report=report)


def _reporter(context: OrderContext, total: int) -> Callable[[int], None]:
    return lambda done: context.report(Progress(phase=Phase.EVALUATING, done=done, total=total))


def _one(rows: Sequence[ScoredTokens], scores: Sequence[TargetScore]) -> RawScore:
    """The score of a text from those of its windows."""
    if problem := next(_problems(rows), ""):
        return RawScore(problem=problem)
    log_prob = sum(score.log_prob for score in scores)
    if not math.isfinite(log_prob):
        return RawScore(problem="the model's numbers are not finite")
    return RawScore(
        log_prob=log_prob,
        n_tokens=sum(len(row.targets) for row in rows),
        is_greedy=all(score.is_greedy for score in scores),
        n_cut=sum(row.n_cut for row in rows),
    )


def _problems(rows: Sequence[ScoredTokens]) -> Iterator[str]:
    return (row.problem for row in rows if row.problem)
