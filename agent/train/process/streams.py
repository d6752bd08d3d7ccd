"""The child's streams: it reads the parent's lines and writes messages, out of the reach of all other code.

The child takes standard input and output for itself before it imports any large library: libraries print, and may
prompt for input. Afterwards descriptor 1 is stderr, and descriptor 0 is the null device.
"""

import os
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import BinaryIO

from agent.orders.protocol import Message


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
    """Return the parent's lines. When the input ends, the process ends at once, even in the middle of a job.

    The parent has then ended, and its successor's child may already work in the same folder.
    """
    lines: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        for line in source:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return iter(lines.get, None)
