"""The child's streams, its environment, and its loop.

Standard input and output are taken away from everybody else before anything heavy is imported: libraries print, and
one of them may ask a question. Descriptor 1 then points at stderr, descriptor 0 at nothing.
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
from shared.wire.jobs import Result
from shared.wire.leases import Failure, FailureKind

GUARDS = {
    **NO_REPORTS,  # TRL's trainers report to the hub in their constructors
    "USE_HUB_KERNELS": "NO",  # compiled code from the hub is remote code
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHDYNAMO_DISABLE": "1",  # nothing is compiled here, and bitsandbytes loads the compiler: two seconds a start
}


class Handler(Protocol):
    """What does the orders. ``longest_row_tokens`` is of the one in hand."""

    longest_row_tokens: int

    def run(self, work: LocalJob, report: Callable[[ChildProgress], None]) -> Result: ...
    def ask(
        self, ask: AnswerRequest, report: Callable[[ChildProgress], None], say: Callable[[str], None]
    ) -> list[str]: ...
    def score(self, score: ScoreRequest, report: Callable[[ChildProgress], None]) -> Scored: ...
    def check(self, check: CheckRequest, report: Callable[[ChildProgress], None]) -> Checked: ...
    def merge(self, merge: MergeRequest, report: Callable[[ChildProgress], None]) -> Merged: ...


def guard_environment() -> None:
    """Set what must be set before torch and the hub's client are imported."""
    os.environ.update(GUARDS)
    sys.modules["kernels"] = None  # type: ignore[assignment]  # bitsandbytes fetches such code by it, and asks nobody
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads of two agents slow each other tenfold


def choose_gpu(device: str) -> None:
    """Show CUDA one GPU only: TRL refuses to train where one process sees several. ``cuda:1`` is the second visible."""
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
    """Our own input and output; everybody else's are nothing and stderr from here on."""
    source, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return source, answers


def sender(answers: BinaryIO) -> Callable[[Message], None]:
    """A function that writes one message a line, and ends the process where nobody reads any more."""
    lock = threading.Lock()  # downloads report from their own threads

    def send(message: Message) -> None:
        line = message.model_dump_json().encode() + b"\n"
        with lock:
            try:
                answers.write(line)
                answers.flush()
            except BrokenPipeError:
                os._exit(0)

    return send


def until_parent_leaves(source: BinaryIO) -> Iterator[bytes]:
    """The lines of the parent. When they end the process ends at once, in the middle of a job too: the parent is gone,
    and its successor's child may already be at work in the same folder."""
    lines: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        for line in source:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def open_worker(order: Order) -> Handler:
    """Import torch and what stands on it. Seconds, hence not before there is something to do."""
    choose_gpu(order.compute.device)
    from agent.train.worker import Worker

    gc.freeze()  # the trainers collect garbage whenever one starts: a tenth of a second over what the imports left
    return Worker()


def serve(
    lines: Iterable[bytes], send: Callable[[Message], None], opener: Callable[[Order], Handler] = open_worker
) -> int:
    """Answer each order until the lines end. Returns the exit status."""
    handler: Handler | None = None
    for line in lines:
        answer: FinalMessage
        try:
            order = ORDER.validate_json(line)
            handler = handler or opener(order)
            answer = _dispatch(handler, order, send)
        except ValidationError as error:
            traceback.print_exc()
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
            answer = _failed(FailureKind.CRASH, f"invalid message: {wrong}")
        except TaskFailed as error:
            traceback.print_exc()
            answer = Failed(failure=error.failure)
        except Exception as error:  # noqa: BLE001 - whatever a job does, the parent gets an answer
            traceback.print_exc()
            # the text of an error that nobody foresaw may quote a row, and messages leave the building
            told = f"{type(error).__name__} in the training process; the agent's own log says more"
            answer = _out_of_memory(error, handler) or _failed(FailureKind.CRASH, told)
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
        return Answered(texts=handler.ask(order, report, lambda text: send(TextChunk(text=text))))
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
    source, answers = take_streams()
    guard_environment()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("agent.train").setLevel(logging.INFO)
    status = serve(until_parent_leaves(source), sender(answers))
    sys.stderr.flush()
    os._exit(status)  # torch's threads and half-freed memory are not worth waiting for


if __name__ == "__main__":
    main()
