"""A further training child, which the child starts for one order that needs a process without its own past."""

import subprocess
import sys

from agent.errors import TaskFailed
from agent.orders.order import AnswerT, Order, replies_to
from agent.orders.protocol import Failed, OutOfMemory, Report, TextChunk
from agent.train.progress import Reporter

_COMMAND = (sys.executable, "-m", "agent.train")
_END_S = 30.0
"""From the end of a process's output to its own."""


def ask_further_child(order: Order[AnswerT], report: Reporter) -> AnswerT:
    """Have another process carry out *order*. It ends with this one, as the child ends when its input does.

    Raises TaskFailed, MemoryError if its memory ran out, and RuntimeError if it ended without an answer.
    """
    replies = replies_to(type(order))
    with subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:  # noqa: S603
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(order.model_dump_json().encode() + b"\n")
            child.stdin.flush()
            for line in child.stdout:
                reply = replies.validate_json(line)
                if isinstance(reply, Report):
                    report(reply.progress)
                elif isinstance(reply, Failed):
                    raise TaskFailed(reply.failure.kind, reply.failure.message, reply.private)
                elif isinstance(reply, OutOfMemory):
                    raise MemoryError("in the process that computes what Fedloom's own trainer does")
                elif not isinstance(reply, TextChunk):
                    return reply
            status = child.wait(_END_S)
            raise RuntimeError(f"the process that computes what Fedloom's own trainer does ended with {status}")
        finally:
            child.kill()
