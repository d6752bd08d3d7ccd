"""The messages of every order: progress and text while the child works, and the two final messages of any order."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.wire.tasks.leases import Failure, Phase, Progress

OUT_OF_MEMORY_EXIT = 77


class Message(BaseModel):
    """One line between parent and child, or a part of one."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


WAITS_FOR_BASE = frozenset({Phase.IMPORTING, Phase.FETCHING_MODEL, Phase.READING_MODEL, Phase.LOADING_MODEL})
"""Phases in which an order waits until the base model is there."""

ChildProgress = Progress | LocalProgress
"""What a child reports while it works. A job is reported in ``Progress`` alone; local orders use both."""


class Report(Message):
    """Progress of the order."""

    type: Literal["report"] = "report"
    progress: ChildProgress


class TextChunk(Message):
    """The next part of a text, such as the answer to a single question. Characters are never split."""

    type: Literal["text_chunk"] = "text_chunk"
    text: str


class Failed(Message):
    """The order cannot be carried out here.

    private: the text for the owner instead. ends_child: whether the child exits; otherwise it keeps running.
    """

    type: Literal["failed"] = "failed"
    failure: Failure
    private: str = ""
    ends_child: bool = False


class OutOfMemory(Message):
    """Memory ran out. The child exits, because its memory is in an unknown state.

    micro_batch: rows that went through the model at once; 0 if unknown. recomputed: whether layers kept only their
    inputs, or cannot.
    """

    type: Literal["out_of_memory"] = "out_of_memory"
    peak_bytes: int
    longest_row_tokens: int
    micro_batch: int = 0
    recomputed: bool = True
