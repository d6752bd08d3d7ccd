"""The child's message loop: it reads orders, has them carried out, and gives an answer to each."""

import gc
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agent.configuration.trainers import OWN, installed
from agent.errors import TaskFailed
from agent.orders.order import Order
from agent.orders.protocol import OUT_OF_MEMORY_EXIT, Failed, Message, OutOfMemory, Report, TextChunk
from agent.orders.table import OrderReader, OrderTable
from agent.train.process.environment import allow_hub_kernels, choose_gpu, gpus_from
from shared.wire.tasks.leases import Failure, FailureKind

if TYPE_CHECKING:
    from agent.train.worker import Worker


def serve(lines: Iterable[bytes], send: Callable[[Message], None], orders: OrderTable) -> int:
    """Carry out each order and send its final message, until the lines end. Returns the exit status.

    Args:
        lines: the parent's lines.
        send: writes a message to the parent.
        orders: the orders that this child takes.
    """
    reader = OrderReader(orders)
    worker: Worker | None = None
    for line in lines:
        answer: Message
        try:
            order = reader.read(line)
            worker = worker or open_worker(order)
            answer = worker.carry_out(
                order, lambda progress: send(Report(progress=progress)), lambda text: send(TextChunk(text=text))
            )
        except TaskFailed as error:
            traceback.print_exc()
            answer = Failed(failure=error.failure, private=error.private, ends_child=_must_end(worker))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - an answer to every order, whatever a plug-in does
            traceback.print_exc()
            answer = _out_of_memory(error, worker) or _crash(error, ends_child=_must_end(worker))
        send(answer)
        if isinstance(answer, OutOfMemory):
            return OUT_OF_MEMORY_EXIT
        if isinstance(answer, Failed) and answer.ends_child:
            return 1
    return 0


def open_worker(order: Order[Any]) -> "Worker":
    """Import torch and all that the order uses. It takes seconds, so the child waits for its first order."""
    gpus = gpus_from(order.compute.device) if order.compute.processes > 1 else []
    choose_gpu(order.compute.device)
    if order.compute.hub_kernels:
        allow_hub_kernels()
    if order.compute.trainer != OWN:
        with suppress(Exception, SystemExit):  # said in words where the trainer is asked for
            installed()[order.compute.trainer].load()  # before the libraries that it may patch
    from agent.train.worker import Worker, handler_of

    worker = Worker(gpus)
    handler_of(type(order))
    gc.freeze()  # each trainer collects garbage when it starts; skipping the imports saves 0.1 s
    return worker


def _must_end(worker: "Worker | None") -> bool:
    return worker is not None and worker.warm.ranks.broken


def _crash(error: BaseException, *, ends_child: bool) -> Failed:
    # the text of an unexpected error may quote a row, and messages leave this machine
    message = f"{type(error).__name__} in the training process; see the agent's log"
    return Failed(failure=Failure.of(FailureKind.CRASH, message), ends_child=ends_child)


def _out_of_memory(error: BaseException, worker: "Worker | None") -> OutOfMemory | None:
    if worker is None:
        return None
    from agent.train.process import memory

    if not memory.is_exhausted(error):
        return None
    warm = worker.warm
    return OutOfMemory(
        peak_bytes=memory.peak_bytes(),
        longest_row_tokens=warm.longest_row_tokens,
        micro_batch=warm.micro_batch,
        recomputed=warm.recomputed,
    )
