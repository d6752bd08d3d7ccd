"""The child's streams, its environment, and its message loop.

The child takes standard input and output for itself before it imports any large library: libraries print, and may
prompt for input. Afterwards descriptor 1 is stderr, and descriptor 0 is the null device.
"""

import gc
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import BinaryIO, Protocol

from pydantic import ValidationError

from agent.child import (
    ORDER,
    OUT_OF_MEMORY_EXIT,
    Answered,
    AnswerRequest,
    Checked,
    CheckRequest,
    ChildProgress,
    Done,
    Failed,
    FinalMessage,
    LocalJob,
    Merged,
    MergeRequest,
    Message,
    Order,
    OutOfMemory,
    Report,
    Scored,
    ScoreRequest,
    TextChunk,
)
from agent.data.tables import NO_REPORTS
from agent.errors import TaskFailed
from agent.train.progress import Reporter
from shared.wire.jobs import Result
from shared.wire.leases import Failure, FailureKind

GUARDS = {
    **NO_REPORTS,  # TRL's trainers report to the hub in their constructors
    "USE_HUB_KERNELS": "NO",  # compiled code from the hub is remote code
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHDYNAMO_DISABLE": "1",  # unused here, but bitsandbytes would load the compiler: two seconds per start
}
"""Environment variables of the child."""


class Handler(Protocol):
    """Runs orders. ``longest_row_tokens`` belongs to the current one."""

    @property
    def longest_row_tokens(self) -> int: ...
    def run(self, work: LocalJob, report: Reporter) -> Result: ...
    def answer(self, order: AnswerRequest, report: Reporter, on_text: Callable[[str], None]) -> list[str]: ...
    def score(self, order: ScoreRequest, report: Reporter) -> Scored: ...
    def check(self, order: CheckRequest, report: Reporter) -> Checked: ...
    def merge(self, order: MergeRequest, report: Reporter) -> Merged: ...


def guard_environment() -> None:
    """Set the environment. It must be called before torch and the hub's client are imported."""
    os.environ.update(GUARDS)
    sys.modules["kernels"] = None  # type: ignore[assignment]  # with it bitsandbytes downloads code without asking
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # busy-waiting threads of two agents slow each other tenfold


def choose_gpu(device: str) -> None:
    """Make only one GPU visible to CUDA, because TRL refuses to train in a process that sees several.

    device: as in the settings. ``cuda:1`` is the second GPU that was visible; no number means the first.
    """
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda"):
        return
    index = int(number or 0)
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if visible:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[index] if index < len(visible) else ""
    elif "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(index)


def take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return the process's input and output, and replace them by the null device and stderr for all other code."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return source, sink


def sender(sink: BinaryIO) -> Callable[[Message], None]:
    """Return a function that writes one message per line. It ends the process if the parent no longer reads."""
    lock = threading.Lock()  # downloads report from their own threads

    def send(message: Message) -> None:
        line = message.model_dump_json().encode() + b"\n"
        with lock:
            try:
                sink.write(line)
                sink.flush()
            except BrokenPipeError:
                os._exit(0)

    return send


def parent_lines(source: BinaryIO) -> Iterator[bytes]:
    """Yield the parent's lines. When the input ends, the process ends at once, even in the middle of a job.

    The parent has then ended, and its successor's child may already work in the same folder.
    """
    lines: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        for line in source:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def open_worker(order: Order) -> Handler:
    """Import torch and all that uses it. It takes seconds, so the child waits for its first order."""
    choose_gpu(order.compute.device)
    from agent.train.worker import Worker

    gc.freeze()  # each trainer collects garbage when it starts; skipping the imports saves 0.1 s
    return Worker()


def serve(
    lines: Iterable[bytes], send: Callable[[Message], None], opener: Callable[[Order], Handler] = open_worker
) -> int:
    """Run each order and send its final message, until the lines end. Returns the exit status."""
    handler: Handler | None = None
    for line in lines:
        answer: FinalMessage
        try:
            order = ORDER.validate_json(line)
            handler = handler or opener(order)
            answer = _dispatch(handler, order, send)
        except ValidationError as error:
            traceback.print_exc()
            reasons = "; ".join(
                f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)
            )
            answer = _failed(FailureKind.CRASH, f"invalid message: {reasons}")
        except TaskFailed as error:
            traceback.print_exc()
            answer = Failed(failure=error.failure)
        except Exception as error:  # noqa: BLE001 - the parent gets an answer to every order
            traceback.print_exc()
            # the text of an unexpected error may quote a row, and messages leave this machine
            message = f"{type(error).__name__} in the training process; see the agent's log"
            answer = _out_of_memory(error, handler) or _failed(FailureKind.CRASH, message)
        send(answer)
        if isinstance(answer, OutOfMemory):
            return OUT_OF_MEMORY_EXIT
    return 0


def _dispatch(
    handler: Handler, order: Order, send: Callable[[Message], None]
) -> Done | Answered | Scored | Checked | Merged:
    def report(progress: ChildProgress) -> None:
        send(Report(progress=progress))

    if isinstance(order, LocalJob):
        return Done(result=handler.run(order, report))
    if isinstance(order, AnswerRequest):
        return Answered(texts=handler.answer(order, report, lambda text: send(TextChunk(text=text))))
    if isinstance(order, ScoreRequest):
        return handler.score(order, report)
    if isinstance(order, CheckRequest):
        return handler.check(order, report)
    return handler.merge(order, report)


def _failed(kind: FailureKind, message: str) -> Failed:
    return Failed(failure=Failure(kind=kind, message=message[:4000]))


def _out_of_memory(error: Exception, handler: Handler | None) -> OutOfMemory | None:
    if handler is None:
        return None
    from agent.train import memory

    if not memory.is_exhausted(error):
        return None
    return OutOfMemory(peak_bytes=memory.peak_bytes(), longest_row_tokens=handler.longest_row_tokens)


def main() -> None:
    source, sink = take_streams()
    guard_environment()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("agent.train").setLevel(logging.INFO)
    status = serve(parent_lines(source), sender(sink))
    sys.stderr.flush()
    os._exit(status)  # without waiting for torch to stop its threads and free its memory


if __name__ == "__main__":
    main()
