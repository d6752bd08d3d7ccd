"""Training children that start at once: forked from a process that has imported the training stack.

That process computes nothing, so it has no thread pools for a fork to break. Production spawns its children. These
behave the same, except that they cannot reach the hub, whatever their environment.
"""

import json
import os

from agent.child import supervisor
from tests.support.forks.forked import Server

_VARIABLE = "FEDLOOM_TESTS_CHILD"

SERVER = Server(
    "tests.support.forks.training_stack",
    OMP_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",  # numpy starts its threads at import
    HF_HUB_OFFLINE="1",
    PYTORCH_NVML_BASED_CUDA_CHECK="1",  # the default check makes CUDA unusable after a fork
)


def argv() -> list[str]:
    """Command of a training child, for a supervisor."""
    return SERVER.stand_in("-m", "agent.train")


def environment() -> dict[str, str]:
    """Environment that makes a process of ``preloaded`` start such children."""
    return {_VARIABLE: json.dumps(argv())}


def adopt() -> None:
    """Make such children the default of this process if its environment asks for it."""
    if command := os.environ.pop(_VARIABLE, None):
        supervisor.DEFAULT_ARGV = tuple(json.loads(command))
