"""The order to do a coordinator's job."""

from pathlib import Path
from typing import ClassVar, Literal

from agent.data.source import DataSource
from agent.orders.order import Order
from agent.orders.protocol import Message
from shared.wire.jobs import Job, Result


class Done(Message):
    """The job's result, as in RESULT_FILE."""

    type: Literal["done"] = "done"
    result: Result


class LocalJob(Order[Done]):
    """A job with everything that it needs on this machine.

    Args:
        job: the coordinator's job.
        folder: where the job's files are written.
        cache: where tokenised data is stored.
        model_path: the base model's folder; None fetches the model from the hub.
        data: the owner's data; None for an ``init`` job.
        adapter: the downloaded global adapter.
        broadcast: the downloaded broadcast tensors.
        reference: the adapter of the kind's reference model; None means the bare base model, or no reference.
        client_state: the client state that belongs to this client's last committed update.
        micro_batch: rows, or pairs, that go through the model at once.
        remote_code: whether code that comes with a base model may run.
        report_losses: whether losses may leave the machine. If not, the child puts none into reports and results.
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
    micro_batch: int
    remote_code: bool
    report_losses: bool
