"""What orders about held-out rows have in common: their evaluation, and prompts in the form of training."""

import sys

from agent.configuration.trainers import OWN
from agent.data.own_template import template_of
from agent.data.rows import Comparison, Row
from agent.data.source import DataSource
from agent.orders.job import LocalJob
from agent.orders.jobs import EvaluateJob, TrainJob
from agent.orders.measure import MeasureRequest
from agent.orders.review import ReviewRequest
from agent.train.data.rendering.templates import Renderer
from agent.train.jobs.context import JobContext
from agent.train.local.answers import Prompt, prompts_of


class Asking:
    """Makes prompts of rows.

    Args:
        work: the job, with the base model's files.
        job: with the template and the maximum length of rows.
        data: the owner's.
        max_new_tokens: room that an answer needs.
    """

    def __init__(self, work: JobContext, job: EvaluateJob | TrainJob, data: DataSource, max_new_tokens: int) -> None:
        limits = work.files.limits
        self._longest = min(job.training.max_length, (limits.n_positions or sys.maxsize) - max_new_tokens)
        self._n_embeddings = limits.n_embeddings or sys.maxsize
        self._tokenizer = work.files.tokenizer
        self._renderer = Renderer(template_of(data, job.data.template), self._tokenizer, job.created_on)

    def prompt(self, row: Row | Comparison) -> Prompt | None:
        """The prompt of a row; None if it is longer than rows in training, or leaves no room for an answer."""
        asked = Row(row.prompt, row.input, completion="a", before=row.before, only_last=True)
        [prompt] = prompts_of([asked], self._renderer, self._tokenizer)
        fits = len(prompt.tokens) <= self._longest and max(prompt.tokens, default=0) < self._n_embeddings
        return prompt if fits else None


def question_of(row: Row | Comparison) -> str:
    """The last prompt of a row with its input, for people."""
    return f"{row.prompt}\n\n{row.input}" if row.input else row.prompt


def evaluation_of(order: MeasureRequest | ReviewRequest, job: EvaluateJob) -> LocalJob:
    """The evaluation that an order of the owner needs, as the child carries it out for a campaign.

    Fedloom's own trainer evaluates: answers belong to it, and no other gives any.
    """
    return LocalJob(
        compute=order.compute.model_copy(update={"trainer": OWN}),
        job=job,
        folder=order.folder,
        cache=order.cache,
        model_path=order.model_path,
        data=order.data,
        adapter=order.adapter,
        broadcast=None,
        reference=order.reference,
        micro_batch=order.micro_batch,
        remote_code=order.remote_code,
    )
