"""The order to measure one model on the owner's own held-out rows, for the owner's report."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agent.data.source import DataSource
from agent.orders.job import RowDigests
from agent.orders.jobs import EvaluateJob
from agent.orders.order import Order
from agent.orders.protocol import Message

ANSWERS_AT_ONCE = 8
"""Questions that go through the model at once by default."""


class MeasuredRow(Message):
    """One held-out row, and what the model makes of it.

    Args:
        place: the row among the held-out ones, from 0.
        question: the last prompt with its input.
        expected: the completion; of a comparison the chosen one.
        answer: the model's greedy answer; None if the prompt leaves no room for one.
        loss: the held-out loss of this row alone; None if the kind has none for a single row.
        n_tokens: its supervised tokens.
    """

    place: int
    question: str
    expected: str
    answer: str | None
    loss: float | None
    n_tokens: int


class MeasuredRows(Message):
    """What one model makes of the held-out rows. It is passed on in a file: it has the text of rows.

    Args:
        metrics: of all held-out rows, by name, as an evaluation of a campaign gives them.
        n_held_out: held-out rows.
        n_distinct: distinct ones.
        rows: those that were asked.
    """

    metrics: dict[str, float]
    n_held_out: int
    n_distinct: int
    rows: list[MeasuredRow]


class Measured(Message):
    """The file with the ``MeasuredRows`` is written."""

    type: Literal["measured"] = "measured"


class MeasureRequest(Order[Measured]):
    """Measure a model on all held-out rows, and have it answer some of them greedily.

    Args:
        job: the evaluation; of the bare base model, that of an adapter without bytes.
        folder: for files of the work.
        cache: where tokenised data is stored.
        model_path: the base model's folder; None: the one in the hub's cache.
        data: the owner's data.
        adapter: the file of the adapter; None measures the bare base model.
        reference: the adapter of the kind's reference model; None means the bare base model, or no reference.
        rows: digests that the rows must have; empty ones are not compared.
        n_asked: most rows that are asked, drawn at random and always the same.
        max_new_tokens: most tokens of an answer.
        micro_batch: rows, or pairs, that go through the model at once.
        answers_at_once: questions that do.
        remote_code: whether code that comes with a base model may run.
        out: the file to write, readable by this user only.
    """

    handler: ClassVar[str] = "agent.train.jobs.measure:measure"

    type: Literal["measure"] = "measure"
    job: EvaluateJob
    folder: Path
    cache: Path
    model_path: Path | None
    data: DataSource
    adapter: Path | None
    reference: Path | None
    rows: RowDigests
    n_asked: Annotated[int, Field(ge=1)]
    max_new_tokens: Annotated[int, Field(ge=1)]
    micro_batch: Annotated[int, Field(ge=1)]
    answers_at_once: Annotated[int, Field(ge=1)]
    remote_code: bool
    out: Path
