"""What agents are started with. Nothing of an evaluation is imported before a campaign needs one."""

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.benchmarks.interface import Benchmarks


@cache
def benchmarks_here() -> "Benchmarks":
    """What runs benchmarks in this process; agents of one process share it, and what it knows of files. Raises
    ImportError."""
    from agent.data.files.tables import NO_REPORTS

    os.environ.update(NO_REPORTS)  # as in the training child: libraries of some benchmarks report to the hub
    from fedloom.evaluation.campaigns.public_benchmarks import PublicBenchmarks

    return PublicBenchmarks()
