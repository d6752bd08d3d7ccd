"""What the agent's parent and its training child say to each other: one JSON object a line.

The parent writes ``Work`` to the child's standard input, one at a time; the child answers with any number of
``Report`` and then one of ``Done``, ``Failed`` and ``OutOfMemory`` on its own copy of descriptor 1. The end of its
input ends the child. After ``OutOfMemory`` it exits with ``OUT_OF_MEMORY_EXIT``.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from agent.settings import ComputeSettings, DataSource
from shared.states import BlobKind
from shared.wire.jobs import InitResult, Job, Result, TrainResult
from shared.wire.leases import Failure, Progress

OUT_OF_MEMORY_EXIT = 77
DELTA_FILE = "delta.safetensors"
EXTRAS_FILE = "extras.safetensors"
ADAPTER_FILE = "adapter.safetensors"
RESULT_FILE = "result.json"
"""Written last, and whole: where it is, the task's other files are complete."""


def files_of(result: Result) -> list[tuple[BlobKind, str, str]]:
    """The files that belong to a result: what each is, its name in the task's folder, its SHA-256."""
    if isinstance(result, InitResult):
        return [(BlobKind.ADAPTER, ADAPTER_FILE, result.adapter)]
    if isinstance(result, TrainResult):
        extras = [(BlobKind.EXTRAS, EXTRAS_FILE, result.extras)] if result.extras is not None else []
        return [(BlobKind.DELTA, DELTA_FILE, result.delta), *extras]
    return []


class Message(BaseModel):
    """One line between parent and child."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Work(Message):
    """A job, with all that it needs on this machine.

    folder: where the job's files are written. model_path: the base model's folder, None to fetch it from the hub.
    adapter, broadcast: the downloaded global tensors. cache: where tokenised data is kept. report_losses: whether
    losses may leave the machine; without it the child puts none into reports and results.
    """

    job: Job
    folder: Path
    cache: Path
    model_path: Path | None
    data: DataSource | None
    adapter: Path | None
    broadcast: Path | None
    compute: ComputeSettings
    micro_batch: int
    remote_code: bool
    report_losses: bool


class Report(Message):
    """Progress."""

    type: Literal["report"] = "report"
    progress: Progress


class Done(Message):
    """The job's result; the same as in RESULT_FILE."""

    type: Literal["done"] = "done"
    result: Result


class Failed(Message):
    """The job cannot be done here. The child lives on."""

    type: Literal["failed"] = "failed"
    failure: Failure


class OutOfMemory(Message):
    """Memory ran out. The child exits: what is left of its memory cannot be trusted."""

    type: Literal["out_of_memory"] = "out_of_memory"
    peak_bytes: int
    longest_row_tokens: int


Answer = Annotated[Report | Done | Failed | OutOfMemory, Field(discriminator="type")]
ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)
