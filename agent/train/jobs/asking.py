"""Held-out prompts as a model is asked them: in the form of training, if they leave room for an answer."""

import sys

from agent.data.own_template import template_of
from agent.data.rows import Comparison, Row
from agent.data.source import DataSource
from agent.orders.jobs import EvaluateJob, TrainJob
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
