"""Starts the child: first its streams and its environment, then it carries out the parent's orders."""

import logging
import os
import sys

from agent.orders.table import ORDERS, OrderTable
from agent.train.process.environment import guard_environment
from agent.train.process.serving import serve
from agent.train.process.streams import parent_lines, sender, take_streams
from shared.system.private_files import make_files_private
from shared.text.log_lines import LineFormatter


def main(orders: OrderTable = ORDERS) -> None:
    """Carry out *orders* until the parent's lines end. It ends the process."""
    source, sink = take_streams()
    guard_environment()
    make_files_private()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(asctime)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("agent.train").setLevel(logging.INFO)
    status = serve(parent_lines(source), sender(sink), orders)
    sys.stderr.flush()
    os._exit(status)  # without waiting for torch to stop its threads and free its memory


if __name__ == "__main__":
    main()
