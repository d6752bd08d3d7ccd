"""Orders whose handlers make noise, fail, or give a wrong answer."""

import os
import subprocess
import sys
from typing import TYPE_CHECKING, ClassVar, Literal

from agent.errors import TaskFailed
from agent.orders.job import Done, LocalJob
from agent.orders.order import Order
from agent.orders.protocol import Message, TextChunk
from shared.wire.tasks.leases import FailureKind, Phase, Progress

if TYPE_CHECKING:
    from agent.train.order_context import OrderContext


class NoisyJob(LocalJob):
    """A job whose handler uses the streams that libraries see."""

    handler: ClassVar[str] = "tests.train.odd_orders:do_noisy_job"


def do_noisy_job(order: NoisyJob, context: "OrderContext") -> Done:
    print("noise of a library", flush=True)  # noqa: T201 - as a library does
    os.write(1, b'{"type": "done"}\n')
    subprocess.run(["echo", "noise of a program"], check=True)
    assert sys.stdin.readline() == ""
    import huggingface_hub.constants as hub

    from agent.train.jobs.order import do_job

    assert hub.HF_HUB_DISABLE_TELEMETRY
    assert os.environ["DO_NOT_TRACK"] == "1"
    return do_job(order, context)


class Failing(Order[Done]):
    """An order whose handler raises an error."""

    handler: ClassVar[str] = "tests.train.odd_orders:fail"

    type: Literal["failing"] = "failing"
    error: Literal["OutOfMemoryError", "MemoryError", "RuntimeError", "ZeroDivisionError", "TaskFailed"]
    text: str = ""


def fail(order: Failing, context: "OrderContext") -> Done:
    import torch

    context.warm.longest_row_tokens = 123
    context.report(Progress(phase=Phase.TRAINING))
    errors = {
        "OutOfMemoryError": torch.OutOfMemoryError(order.text),
        "MemoryError": MemoryError(order.text),
        "RuntimeError": RuntimeError(order.text),
        "ZeroDivisionError": ZeroDivisionError(order.text),
        "TaskFailed": TaskFailed(FailureKind.DATA, order.text),
    }
    raise errors[order.error]


class Mistaken(Order[Done]):
    """An order whose handler returns a message of another order."""

    handler: ClassVar[str] = "tests.train.odd_orders:mistake"

    type: Literal["mistaken"] = "mistaken"


def mistake(order: Mistaken, context: "OrderContext") -> Message:
    return TextChunk(text="a patient's name")
