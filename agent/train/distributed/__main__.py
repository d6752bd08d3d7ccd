"""Starts a rank above 0: its number is the first argument, and its input are rank 0's orders."""

import os
import sys

from agent.train.distributed.follower import follow
from agent.train.distributed.orders import HUB_KERNELS
from agent.train.process.environment import allow_hub_kernels
from agent.train.process.starting import start_process
from agent.train.process.streams import parent_lines, take_streams

if __name__ == "__main__":
    source, _ = take_streams()
    lines = parent_lines(source)  # from now on it ends with rank 0, also while it imports torch
    start_process()
    if HUB_KERNELS in sys.argv[2:]:
        allow_hub_kernels()
    status = follow(int(sys.argv[1]), lines)
    sys.stderr.flush()
    os._exit(status)
