"""Training children that start at once: forked from a process that has imported the training stack.

That process computes nothing, so that there are no thread pools which a fork would break. Production spawns its
children; these behave as spawned ones, but cannot reach the hub, whatever their environment says.
"""

import json
import os

from agent import supervisor
from tests.support.forks.forked import Server

_VARIABLE = "FEDLOOM_TESTS_CHILD"

SERVER = Server(
    "tests.support.forks.training_stack",
    OMP_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",  # numpy starts its threads when it is imported
    HF_HUB_OFFLINE="1",
    PYTORCH_NVML_BASED_CUDA_CHECK="1",  # the other check makes CUDA useless after a fork
)


def argv() -> list[str]:
    """The command of a training child, as a supervisor takes it."""
    return SERVER.stand_in("-m", "agent.train")


def environment() -> dict[str, str]:
    """What a process that is started by ``preloaded`` must find in its environment to have such children."""
    return {_VARIABLE: json.dumps(argv())}


def adopt() -> None:
    """Start such children by default in this process, if its environment says so."""
    if command := os.environ.pop(_VARIABLE, None):
        supervisor.DEFAULT_ARGV = tuple(json.loads(command))
