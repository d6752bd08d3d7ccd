"""The protocol between the agent's parent process and its training child: one JSON object a line.

The parent writes one order at a time to the child's standard input. A ``LocalJob`` wraps a coordinator's job. The other
orders (``AnswerRequest``, ``ScoreRequest``, ``CheckRequest``, ``MergeRequest``) come from a person at this machine,
never from the network. On its own copy of descriptor 1 the child answers with any number of ``Report`` and
``TextChunk`` messages, then with one final message: the order's own (``Done``, ``Answered``, ``Scored``, ``Checked``,
``Merged``), ``Failed`` or ``OutOfMemory``. The child exits when its input ends, and with ``OUT_OF_MEMORY_EXIT`` after
``OutOfMemory``.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from agent.data.own_template import OwnTemplate
from agent.data.report import DataReport
from agent.data.source import DataSource
from agent.settings import ComputeSettings
from shared.campaign import BaseSection, LoraSection, Template
from shared.states import BlobKind
from shared.wire.jobs import Fingerprint, InitResult, Job, Result, TrainResult
from shared.wire.leases import Failure, Progress

Dtype = Literal["float32", "bfloat16", "float16"]

OUT_OF_MEMORY_EXIT = 77
DELTA_FILE = "delta.safetensors"
EXTRAS_FILE = "extras.safetensors"
CLIENT_STATE_FILE = "client_state.safetensors"
"""The client state that a task leaves for the next one, if the algorithm has any. It never leaves this machine."""
CHECKPOINT_FILE = "checkpoint.pt"
"""Where training resumes after a crash. Deleted once there is a result. It never leaves this machine."""
ADAPTER_FILE = "adapter.safetensors"
RESULT_FILE = "result.json"
"""Written last and atomically: if it exists, the task's other files are complete."""


def files_of(result: Result) -> list[tuple[BlobKind, str, str]]:
    """Return kind, name in the task's folder, and SHA-256 of each file that belongs to a result."""
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
    """A job with everything that it needs on this machine.

    Args:
        job: the coordinator's job.
        folder: where the job's files are written.
        cache: where tokenised data is stored.
        model_path: the base model's folder; None fetches the model from the hub.
        data: the owner's data; None for an ``init`` job.
        adapter: the downloaded global adapter.
        broadcast: the downloaded broadcast tensors.
        reference: (DPO only) the adapter that defines π_ref; None means the bare base model.
        client_state: the client state that belongs to this client's last committed update.
        compute: what the child may use.
        micro_batch: rows, or pairs, that go through the model at once.
        remote_code: whether code that comes with a base model may run.
        report_losses: whether losses may leave the machine. If not, the child puts none into reports and results.
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
    """A LoRA adapter: the safetensors file of its weights, and its shape."""

    weights: Path
    lora: LoraSection


class LocalOrder(Message):
    """The base model of an order from a person at this machine.

    Args:
        base: the base model as a campaign names it.
        model_path: its folder; None uses ``base``, and fetches the model from the hub if need be.
        fingerprint: what the base model must match; None if unknown.
        cache: where digests of its files are cached.
        compute: what the child may use.
    """

    base: BaseSection
    model_path: Path | None
    fingerprint: Fingerprint | None
    cache: Path
    compute: ComputeSettings


class Question(Message):
    """A single-turn prompt. ``input`` is further text below the prompt, as in rows of training data."""

    prompt: str
    input: str = ""


class AnswerRequest(LocalOrder):
    """Answer each question independently. Without questions the model is loaded and nothing else happens.

    Args:
        adapter: the adapter on the base model; None asks the bare base model.
        template: the chat template.
        questions: the prompts. The answer to a single question is also streamed as ``TextChunk`` messages.
        max_new_tokens: most tokens of one answer.
        micro_batch: questions that go through the model at once.
        temperature: 0 decodes greedily; above 0 tokens are sampled.
        seed: seed of the sampling.
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
    """Compute the log-likelihood of each completion given its prompt.

    Args:
        adapter: the adapter on the base model; None scores with the bare base model.
        template: the chat template.
        rows: prompts with their completions.
        micro_batch: rows that go through the model at once.
    """

    type: Literal["score"] = "score"
    adapter: LoraFile | None
    template: Template | OwnTemplate
    rows: list[Completed]
    micro_batch: Annotated[int, Field(ge=1)]


class CheckRequest(LocalOrder):
    """Check an owner's data as a campaign would read it.

    Args:
        name: the data's name in agent.toml.
        data: where the data is, and its columns.
        kind: the campaign's kind of training.
        template: the campaign's chat template.
        max_length: the campaign's maximum length of a row, in tokens.
        remote_code: whether code that comes with a base model may run.
    """

    type: Literal["check"] = "check"
    name: str
    data: DataSource
    kind: str
    template: Template
    max_length: Annotated[int, Field(ge=1)]
    remote_code: bool


class MergeRequest(LocalOrder):
    """Merge base model and adapter, write the model as *dtype* into the existing empty *folder*, and check it."""

    type: Literal["merge"] = "merge"
    adapter: LoraFile
    dtype: Dtype
    folder: Path


Order = Annotated[LocalJob | AnswerRequest | ScoreRequest | CheckRequest | MergeRequest, Field(discriminator="type")]
ORDER: TypeAdapter[Order] = TypeAdapter(Order)


class LocalPhase(StrEnum):
    """Phases of local orders only. No lease carries them, so the wire's ``Phase`` does not have them."""

    ANSWERING = "answering"
    MERGING = "merging"
    WRITING = "writing"
    CHECKING = "checking"


class LocalProgress(Message):
    """How far a local order is: *done* of *total* questions. *total* is 0 if there is nothing to count."""

    phase: LocalPhase
    done: Annotated[int, Field(ge=0)] = 0
    total: Annotated[int, Field(ge=0)] = 0


ChildProgress = Progress | LocalProgress
"""What a child reports while it works. A job is reported in ``Progress`` alone; local orders use both."""


class Report(Message):
    """Progress of the order."""

    type: Literal["report"] = "report"
    progress: ChildProgress


class Done(Message):
    """The job's result, as in RESULT_FILE."""

    type: Literal["done"] = "done"
    result: Result


class TextChunk(Message):
    """The next part of the answer to a single question. Characters are never split."""

    type: Literal["text_chunk"] = "text_chunk"
    text: str


class Answered(Message):
    """The answers in the order of the questions. The text chunks of a single question concatenate to its answer."""

    type: Literal["answered"] = "answered"
    texts: list[str]


class Scored(Message):
    """Scores of the rows, in their order.

    log_probs: Σ log p over the completion's tokens and the end marker, in nats. n_tokens: the number of these tokens.
    """

    type: Literal["scored"] = "scored"
    log_probs: list[float]
    n_tokens: list[int]


class Checked(Message):
    """The report on the data."""

    type: Literal["checked"] = "checked"
    report: DataReport


class Merged(Message):
    """Largest absolute differences of logits on a few texts, against base and adapter in float32.

    merge_difference: of the merged weights in float32. file_difference: of the written files, read again.
    """

    type: Literal["merged"] = "merged"
    merge_difference: float
    file_difference: float


class Failed(Message):
    """The order cannot be carried out here. The child keeps running."""

    type: Literal["failed"] = "failed"
    failure: Failure


class OutOfMemory(Message):
    """Memory ran out. The child exits, because its memory is in an unknown state."""

    type: Literal["out_of_memory"] = "out_of_memory"
    peak_bytes: int
    longest_row_tokens: int


FinalMessage = Done | Answered | Scored | Checked | Merged | Failed | OutOfMemory
Answer = Annotated[Report | TextChunk | FinalMessage, Field(discriminator="type")]
ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)
