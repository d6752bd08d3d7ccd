"""Measures one model on the owner's held-out rows: the loss of all, and of some the answer and the loss of each."""

import math
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.data.own_template import template_of
from agent.data.reading import read_split
from agent.data.rows import Comparison, Row
from agent.errors import TaskFailed
from agent.orders.measure import Measured, MeasuredRow, MeasuredRows, MeasureRequest
from agent.orders.protocol import LocalPhase, LocalProgress
from agent.train import kinds
from agent.train.base.adapter_files import load_adapter
from agent.train.base.attached import AttachedAdapter
from agent.train.base.model import Base
from agent.train.data.row_tokenizer import BATCH, RowTokenizer
from agent.train.data.tokens import Samples, TokenizedData
from agent.train.jobs.asking import Asking, evaluation_of, question_of
from agent.train.jobs.context import JobContext
from agent.train.jobs.evaluate import evaluated
from agent.train.jobs.start import check_start
from agent.train.local.answers import Generation, answers_to
from agent.train.order_context import OrderContext
from agent.train.trainer.scoring import Scoring
from shared.metrics import HELD_OUT_COUNTS, HELD_OUT_LOSS, Origin, Weight
from shared.system.durable import atomic_text
from shared.wire.tasks.leases import FailureKind, Phase, Progress

_SEED = 0
"""Of the draw of rows that are asked: every report asks the same ones of the same rows."""
_CHANGED = (
    "the rows are not those that the campaign was prepared with, so nothing can be compared: put back the file that "
    "[data.{name}] of agent.toml read then"
)


def measure(order: MeasureRequest, context: OrderContext) -> Measured:
    """Measure, and write the file. Raises TaskFailed: data if the rows have changed, or none is held out."""
    job = order.job
    work = JobContext(context.warm, evaluation_of(order, order.job), context.report)
    check_start(work.work, job)
    data = work.data(job)
    _check_rows(order, data)
    samples = data.held_out
    if len(samples) == 0:
        raise TaskFailed(FailureKind.DATA, f"no rows of {job.data.name} are held out, so there is nothing to report on")
    context.warm.longest_row_tokens = int(samples.lengths.max())
    rows = _rows(order, work, len(samples))
    places = sorted(random.Random(_SEED).sample(range(len(rows)), min(order.n_asked, len(rows))))  # noqa: S311
    asked = [rows[place] for place in places]
    with work.suitable_base(job, samples) as (base, _):
        reference = work.reference(job, base, samples, np.arange(len(samples)))  # (n, completions), or None
        with base.adapter(job.lora, seed=0) as attached:
            if order.adapter is not None:
                load_adapter(attached, order.adapter)
            else:  # an adapter of zeros adds nothing: the kind's evaluation takes PEFT models
                for parameter in attached.parameters.values():
                    parameter.data.zero_()
            answers = _answers(order, context, work, base, attached, asked)
            # after the answers: it gives the model the head of the loss
            metrics = evaluated(work, base, attached, samples, reference)
            losses = _row_losses(work, base, attached, samples, reference, places)
    counts = {Weight.ROWS: len(samples), Weight.TOKENS: int(samples.completions.n_supervised.sum())}
    metrics |= {HELD_OUT_COUNTS[weight]: n for weight, n in counts.items()}
    kinds.check_measured(work.kind, Origin.EVALUATION, metrics)
    n_tokens = samples.completions.n_supervised.reshape(-1, samples.n_completions).sum(axis=1)  # (n,)
    found = MeasuredRows(
        metrics=metrics,
        n_held_out=len(samples),
        n_distinct=samples.n_distinct(),
        rows=[
            MeasuredRow(
                place=place,
                question=question_of(row),
                expected=row.completions[0].completion,
                answer=answer,
                loss=loss,
                n_tokens=int(n_tokens[place]),
            )
            for place, row, answer, loss in zip(places, asked, answers, losses, strict=True)
        ],
    )
    atomic_text(order.out, found.model_dump_json(), mode=0o600)
    return Measured()


def _check_rows(order: MeasureRequest, data: TokenizedData) -> None:
    """Raise TaskFailed (data) unless the rows are those of the preparation."""
    expected = order.rows
    pairs = ((expected.train, data.train.sha256), (expected.held_out, data.held_out.sha256))
    if any(before and before != now for before, now in pairs):
        raise TaskFailed(FailureKind.DATA, _CHANGED.format(name=order.job.data.name))


def _rows(order: MeasureRequest, work: JobContext, n_held_out: int) -> list[Row | Comparison]:
    """The held-out rows as texts, in the order of their samples."""
    job, files = order.job, work.files
    source = order.data.named(job.data.name)
    template = template_of(source, job.data.template)
    tokenizer = RowTokenizer(source, template, job.training.max_length, files.tokenizer, files.limits, job.created_on)
    located = read_split(source, work.kind).held_out
    batches = (located[begin : begin + BATCH] for begin in range(0, len(located), BATCH))
    found = [each for batch in batches for each in tokenizer.tokenize(batch)]
    usable = [each.located.row for each in found if not each.skip_reason and not each.error]
    if len(usable) != n_held_out:  # the file changed since it was tokenised, a moment ago
        raise TaskFailed(FailureKind.DATA, _CHANGED.format(name=job.data.name))
    return usable


def _answers(
    order: MeasureRequest,
    context: OrderContext,
    work: JobContext,
    base: Base,
    attached: AttachedAdapter,
    rows: Sequence[Row | Comparison],
) -> list[str | None]:
    """The greedy answer to each row; None where the prompt leaves no room."""
    asking = Asking(work, order.job, order.data, order.max_new_tokens)
    prompts = {at: prompt for at, row in enumerate(rows) if (prompt := asking.prompt(row)) is not None}
    texts = answers_to(
        list(prompts.values()),
        Generation(order.max_new_tokens, order.answers_at_once),
        attached.model,
        work.files.tokenizer,
        autocast_dtype=base.autocast_dtype,
        report=lambda done: context.report(LocalProgress(phase=LocalPhase.ANSWERING, done=done, total=len(prompts))),
    )
    answers = dict(zip(prompts, texts, strict=True))
    return [answers.get(at) for at in range(len(rows))]


def _row_losses(
    work: JobContext,
    base: Base,
    attached: AttachedAdapter,
    samples: Samples,
    reference: NDArray[np.float64] | None,
    places: Sequence[int],
) -> list[float | None]:
    """The held-out loss of each row by itself, by the kind's own evaluation; None where it has none."""
    scoring = Scoring(samples.n_completions, base.autocast_dtype, lambda _: None)
    losses: list[float | None] = []
    for place in places:
        one = samples.at(np.array([place], np.int64))
        own = reference[[place]] if reference is not None else None
        try:
            value = work.training.evaluate(attached.model, one, own, scoring).get(HELD_OUT_LOSS)
        except (ValueError, ArithmeticError):  # a kind may need several rows: then no interval is given
            value = None
        losses.append(value if value is not None and math.isfinite(value) else None)
        work.report(Progress(phase=Phase.EVALUATING, done=len(losses), total=len(places)))
    return losses
