"""The order to compute what Fedloom's own trainer makes of a job's rows, in a process that no other trainer changed."""

from pathlib import Path
from typing import ClassVar, Literal

from agent.orders.job import LocalJob
from agent.orders.order import Order
from agent.orders.protocol import Message


class OwnResultsMade(Message):
    """The file is written."""

    type: Literal["own_results_made"] = "own_results_made"


class OwnResultsRequest(Order[OwnResultsMade]):
    """Compute the results.

    Args:
        work: the job, of which only the base, the rows and the settings matter.
        out: the file to write.
    """

    handler: ClassVar[str] = "agent.train.jobs.own_results:make_own_results"

    type: Literal["own_results"] = "own_results"
    work: LocalJob
    out: Path
