"""The protocol between the agent's parent and its training child: one JSON object a line.

The parent writes one order at a time to the child's standard input: ``LocalJob``, which is a coordinator's job, or
``AnswerRequest``, ``ScoreRequest``, ``CheckRequest`` or ``MergeRequest``, which only a person on this machine sends,
never the network. On its own copy of descriptor 1 the child answers with any number of ``Report`` and ``TextChunk``,
and then with one final message: the order's own (``Done``, ``Answered``, ``Scored``, ``Checked``, ``Merged``),
``Failed`` or ``OutOfMemory``. The end of its input ends the child. After ``OutOfMemory`` it exits with
``OUT_OF_MEMORY_EXIT``.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from agent.data.own_template import OwnTemplate
from agent.data.report import DataReport
from agent.settings import ComputeSettings, DataSource
from shared.campaign import BaseSection, LoraSection, Template, TrainingKind
from shared.states import BlobKind
from shared.wire.jobs import Fingerprint, InitResult, Job, Result, TrainResult
from shared.wire.leases import Failure, Progress

Dtype = Literal["float32", "bfloat16", "float16"]

OUT_OF_MEMORY_EXIT = 77
DELTA_FILE = "delta.safetensors"
EXTRAS_FILE = "extras.safetensors"
CLIENT_STATE_FILE = "client_state.safetensors"
"""What the client keeps of a task for its next one, where its algorithm has it keep something. It never leaves."""
CHECKPOINT_FILE = "checkpoint.pt"
"""Where a training goes on after a crash. It is gone once there is a result, and it never leaves."""
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


class LocalJob(Message):
    """A job, with all that it needs on this machine.

    folder: where the job's files are written. model_path: the base model's folder, None to fetch it from the hub.
    adapter, broadcast: the downloaded global tensors. reference: the adapter that preferences are held to, None where
    that is the base alone. client_state: what this client kept with its counted update. cache: where
    tokenised data is kept. report_losses: whether losses may leave the machine; without it the child puts none into
    reports and results.
    """

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
    compute: ComputeSettings
    micro_batch: int
    remote_code: bool
    report_losses: bool


class LoraFile(Message):
    """A LoRA adapter: its weights, a safetensors file, and its shape."""

    weights: Path
    lora: LoraSection


class LocalOrder(Message):
    """What these orders say of the base model.

    model_path: its folder, None to look where ``base`` points, fetching it from the hub. fingerprint: what the base
    must be, None where nobody knows. cache: where digests of its files are remembered.
    """

    base: BaseSection
    model_path: Path | None
    fingerprint: Fingerprint | None
    cache: Path
    compute: ComputeSettings


class Question(Message):
    """A single turn. ``input`` is further text to the prompt, as rows of training data may have it."""

    prompt: str
    input: str = ""


class AnswerRequest(LocalOrder):
    """Answer each question by itself, with the adapter on the base model or, where it is None, by the base alone.

    micro_batch: questions that go through the model at once. temperature: 0 takes the likeliest token each time; above
    0 tokens are sampled, with *seed*. The answer to a single question is streamed in ``TextChunk`` as well. Without
    questions the model is loaded, and nothing else.
    """

    type: Literal["answer"] = "answer"
    adapter: LoraFile | None
    template: Template | OwnTemplate
    questions: list[Question]
    max_new_tokens: Annotated[int, Field(ge=1)]
    micro_batch: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(ge=0)] = 0.0
    seed: Annotated[int, Field(ge=0)] = 0


class Completed(Question):
    """A single turn with its answer."""

    completion: str


class ScoreRequest(LocalOrder):
    """Find how likely each completion is after its prompt, with the adapter on the base model or by the base alone.

    micro_batch: rows that go through the model at once.
    """

    type: Literal["score"] = "score"
    adapter: LoraFile | None
    template: Template | OwnTemplate
    rows: list[Completed]
    micro_batch: Annotated[int, Field(ge=1)]


class CheckRequest(LocalOrder):
    """Look through an owner's data, called *name*, as a campaign of this kind, template and length would."""

    type: Literal["check"] = "check"
    name: str
    data: DataSource
    kind: TrainingKind
    template: Template
    max_length: Annotated[int, Field(ge=1)]
    remote_code: bool


class MergeRequest(LocalOrder):
    """Write base model and adapter as one model of *dtype* into *folder*, which is there and empty, and check it."""

    type: Literal["merge"] = "merge"
    adapter: LoraFile
    dtype: Dtype
    folder: Path


Order = Annotated[LocalJob | AnswerRequest | ScoreRequest | CheckRequest | MergeRequest, Field(discriminator="type")]
ORDER: TypeAdapter[Order] = TypeAdapter(Order)


class Report(Message):
    """Progress."""

    type: Literal["report"] = "report"
    progress: Progress


class Done(Message):
    """The job's result; the same as in RESULT_FILE."""

    type: Literal["done"] = "done"
    result: Result


class TextChunk(Message):
    """More text of the answer to the only question. Characters are whole."""

    type: Literal["text_chunk"] = "text_chunk"
    text: str


class Answered(Message):
    """The answers, in the order of the questions. The pieces of the only one make up its text."""

    type: Literal["answered"] = "answered"
    texts: list[str]


class Scored(Message):
    """Of each row, in their order: Σ log p over the completion's tokens and the end marker, in nats, and how many
    tokens these are."""

    type: Literal["scored"] = "scored"
    log_probs: list[float]
    n_tokens: list[int]


class Checked(Message):
    """What was found in the data."""

    type: Literal["checked"] = "checked"
    report: DataReport


class Merged(Message):
    """Largest absolute differences of logits on a few texts, against base and adapter in float32. merge_difference: of
    the merged weights in float32. file_difference: of the files as they were written, read again."""

    type: Literal["merged"] = "merged"
    merge_difference: float
    file_difference: float


class Failed(Message):
    """The job cannot be done here. The child lives on."""

    type: Literal["failed"] = "failed"
    failure: Failure


class OutOfMemory(Message):
    """Memory ran out. The child exits: what is left of its memory cannot be trusted."""

    type: Literal["out_of_memory"] = "out_of_memory"
    peak_bytes: int
    longest_row_tokens: int


FinalMessage = Done | Answered | Scored | Checked | Merged | Failed | OutOfMemory
Answer = Annotated[Report | TextChunk | FinalMessage, Field(discriminator="type")]
ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)
