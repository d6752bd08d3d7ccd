"""The order to compare a round's adapter with and without an update that is held, on the owner's own held-out rows."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agent.data.source import DataSource
from agent.orders.jobs import TrainJob
from agent.orders.order import Order
from agent.orders.protocol import Message

N_ANSWERS = 5
"""Prompts that are answered before and after."""
MAX_NEW_TOKENS = 60
"""Most tokens of an answer."""


class ComparedAnswer(Message):
    """A held-out prompt, and what the model answers before and after the update. The prompt may be cut."""

    prompt: str
    before: str
    after: str


class Reviewed(Message):
    """What the update changes. It stays on this machine.

    Args:
        n_rows: the held-out rows that the losses are of.
        loss_before: held-out loss of the adapter that the round starts from; None if it is not known.
        loss_after: that of the same adapter with this client's own update added to it.
        unit: of the losses.
        answers: to the first held-out prompts.
        problem: why something could not be computed; empty if all was.
    """

    type: Literal["reviewed"] = "reviewed"
    n_rows: int = 0
    loss_before: float | None = None
    loss_after: float | None = None
    unit: str = ""
    answers: tuple[ComparedAnswer, ...] = ()
    problem: str = ""


class ReviewRequest(Order[Reviewed]):
    """Measure the held-out loss of a round's adapter, and answer held-out prompts, without and with an update.

    Args:
        job: the training that made the update.
        folder: that of the task.
        cache: where tokenised data is stored.
        model_path: the base model's folder; None fetches the model from the hub.
        data: the owner's data.
        adapter: the adapter that the round starts from.
        update: the file of the update.
        reference: the adapter of the kind's reference model; None means the bare base model, or no reference.
        micro_batch: rows, or pairs, that go through the model at once.
        remote_code: whether code that comes with a base model may run.
    """

    handler: ClassVar[str] = "agent.train.jobs.review:review"

    type: Literal["review"] = "review"
    job: TrainJob
    folder: Path
    cache: Path
    model_path: Path | None
    data: DataSource
    adapter: Path
    update: Path
    reference: Path | None = None
    micro_batch: Annotated[int, Field(ge=1)]
    remote_code: bool
