"""Starts the child: first its streams and its environment, then it carries out the parent's orders."""

import os
import sys

from agent.orders.table import ORDERS, OrderTable
from agent.train.process.serving import serve
from agent.train.process.starting import start_process
from agent.train.process.streams import parent_lines, sender, take_streams


def main(orders: OrderTable = ORDERS) -> None:
    """Carry out *orders* until the parent's lines end. It ends the process."""
    source, sink = take_streams()
    start_process()
    status = serve(parent_lines(source), sender(sink), orders)
    sys.stderr.flush()
    os._exit(status)  # without waiting for torch to stop its threads and free its memory


if __name__ == "__main__":
    main()
