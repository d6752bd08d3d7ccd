"""The review of a held update: its owner's held-out loss and answers, before and after."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.data.reading import read_split
from agent.data.rows import Comparison, Row
from agent.orders.jobs import EvaluateJob
from agent.orders.review import MAX_NEW_TOKENS, N_ANSWERS, ComparedAnswer, Reviewed, ReviewRequest
from agent.train.base.adapter_files import add_update, load_adapter
from agent.train.base.model import Base
from agent.train.data.tokens import Samples
from agent.train.jobs.asking import Asking, evaluation_of, question_of
from agent.train.jobs.context import JobContext
from agent.train.jobs.evaluate import evaluated
from agent.train.local.answers import Generation, Prompt, answers_to
from agent.train.order_context import OrderContext
from shared.metrics import HELD_OUT_LOSS
from shared.text.unsafe import shorten

_SHOWN = 2000
"""Most characters of a prompt that are kept to be shown."""


@dataclass(frozen=True)
class _Question:
    """A held-out prompt, and its text for the owner."""

    prompt: Prompt
    text: str


def review(order: ReviewRequest, context: OrderContext) -> Reviewed:
    """Measure and answer with the adapter that the round starts from, then with the update added. Raises TaskFailed."""
    job = _evaluation(order)
    work = JobContext(context.warm, evaluation_of(order, job), context.report)
    samples = work.data(job).held_out
    if len(samples) == 0:
        return Reviewed(problem=f"no rows of {job.data.name} are held out, so there is nothing to compare on")
    context.warm.longest_row_tokens = int(samples.lengths.max())
    questions = _questions(order, work)
    with work.suitable_base(job, samples) as (base, _):
        reference = work.reference(job, base, samples, np.arange(len(samples)))  # (n, completions), or None
        before, answers = _measured(order, job, work, base, samples, reference, questions, is_after=False)
        after, new_answers = _measured(order, job, work, base, samples, reference, questions, is_after=True)
    texts = [question.text for question in questions]
    return Reviewed(
        n_rows=len(samples),
        loss_before=before,
        loss_after=after,
        unit=work.kind.metrics[HELD_OUT_LOSS].unit,
        answers=tuple(
            ComparedAnswer(prompt=prompt, before=old, after=new)
            for prompt, old, new in zip(texts, answers, new_answers, strict=True)
        ),
        problem="" if questions else "no held-out prompt is short enough to be answered",
    )


def _measured(
    order: ReviewRequest,
    job: EvaluateJob,
    work: JobContext,
    base: Base,
    samples: Samples,
    reference: NDArray[np.float64] | None,
    questions: Sequence[_Question],
    *,
    is_after: bool,
) -> tuple[float | None, list[str]]:
    """The held-out loss and the answers, with the update or without it."""
    with base.adapter(job.lora, seed=0) as attached:
        load_adapter(attached, order.adapter)
        if is_after:
            add_update(attached, order.update, rank=order.job.rank)
        answers = answers_to(
            [question.prompt for question in questions],
            Generation(MAX_NEW_TOKENS, order.micro_batch),
            attached.model,
            work.files.tokenizer,
            autocast_dtype=base.autocast_dtype,
        )
        # after the answers: it gives the model the head of the loss
        metrics = evaluated(work, base, attached, samples, reference)
    return metrics.get(HELD_OUT_LOSS), answers


def _questions(order: ReviewRequest, work: JobContext) -> list[_Question]:
    """The first held-out prompts that are no longer than rows in training, and leave room for an answer."""
    asking = Asking(work, order.job, order.data, MAX_NEW_TOKENS)
    questions: list[_Question] = []
    for located in read_split(order.data.named(order.job.data.name), work.kind).held_out:
        prompt = asking.prompt(located.row)
        if prompt is not None:
            questions.append(_Question(prompt, _text(located.row)))
        if len(questions) == N_ANSWERS:
            break
    return questions


def _text(row: Row | Comparison) -> str:
    return shorten(question_of(row), _SHOWN)


def _evaluation(order: ReviewRequest) -> EvaluateJob:
    """The job to evaluate the adapter that the round starts from."""
    job = order.job
    shared = {name: getattr(job, name) for name in EvaluateJob.model_fields if name not in ("kind", "round")}
    return EvaluateJob(**shared, round=job.round - 1)
