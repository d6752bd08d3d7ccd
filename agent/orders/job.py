"""The order to do a job that the agent derived from the accepted campaign."""

from pathlib import Path
from typing import ClassVar, Literal

from agent.data.source import DataSource
from agent.orders.jobs import Job
from agent.orders.order import Order
from agent.orders.protocol import Message
from shared.wire.tasks.results import Result


class RowDigests(Message):
    """Digests of an owner's tokenised rows, by which later work tells whether they are the same. Empty if not known."""

    train: str = ""
    held_out: str = ""


class Done(Message):
    """The job's result with everything that was measured, and what stays on this machine. RESULT_FILE holds it.

    ``agent.policy.disclosure`` decides what of it leaves.

    n_distinct: distinct rows behind the numbers: all training rows of a ``prepare`` job, those that a ``train`` job
        drew, the held-out ones of an ``evaluate`` job.
    n_distinct_held_out: distinct held-out rows, of a ``prepare`` job.
    rows: digests of the tokenised rows, of a ``prepare`` job.
    """

    type: Literal["done"] = "done"
    result: Result
    n_distinct: int = 0
    n_distinct_held_out: int = 0
    rows: RowDigests = RowDigests()


class LocalJob(Order[Done]):
    """A job with everything that it needs on this machine.

    Args:
        job: what to do, derived from the accepted campaign.
        folder: where the job's files are written.
        cache: where tokenised data is stored.
        model_path: the base model's folder; None fetches the model from the hub.
        data: the owner's data; None for an ``init`` job.
        adapter: the downloaded global adapter.
        broadcast: the downloaded broadcast tensors.
        reference: the adapter of the kind's reference model; None means the bare base model, or no reference.
        client_state: the client state that belongs to this client's last committed update.
        residual: what rounding took from that update.
        micro_batch: the most rows, or pairs, that go through the model at once.
        recompute: whether layers keep only their inputs for the backward pass: memory ran out with one row at a time.
        remote_code: whether code that comes with a base model may run.
    """

    handler: ClassVar[str] = "agent.train.jobs.order:do_job"

    type: Literal["job"] = "job"
    job: Job
    folder: Path
    cache: Path
    model_path: Path | None
    data: DataSource | None
    adapter: Path | None
    broadcast: Path | None
    reference: Path | None = None
    client_state: Path | None = None
    residual: Path | None = None
    micro_batch: int
    recompute: bool = False
    remote_code: bool
