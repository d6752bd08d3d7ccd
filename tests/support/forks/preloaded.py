"""Processes that start at once: forked from one that has imported the coordinator and the agent's parent.

A test that starts eighty of them would otherwise import for minutes. What runs is the same command in a process of its
own; but agents started so ask again at once after a cut, so that nobody waits for their jitter, simulations see each
round of a tiny model, and training children may be forked too.
"""

import os
import subprocess
import tempfile
from collections.abc import Sequence

from tests.support.forks.fork_server import main
from tests.support.forks.forked import ROOT, Forked, Server

AGAIN_S = 0.2
LOOK_S = 0.1
_MODULES = (
    *("fedloom.cli", "coordinator.main", "agent.main", "migrations"),
    # what libraries import when they are used
    *("aiosqlite", "asyncpg", "uvicorn.lifespan.on", "uvicorn.loops.uvloop", "uvicorn.protocols.http.httptools_impl"),
    *("sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.dialects.postgresql.asyncpg"),
    # what commands import when they are called
    *(
        "fedloom.cli.simulation.compare",
        "fedloom.cli.simulation.simulate",
        "fedloom.cli.simulation.view",
        "fedloom.simulation.run",
    ),
    *("fedloom.comparison.comparison", "fedloom.comparison.trial"),
)


class Preloaded(Forked):
    """A started process of Fedloom, as ``subprocess.Popen`` has it."""

    server = Server("tests.support.forks.preloaded")


def run(argv: Sequence[str], timeout_s: float = 400, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, as ``subprocess.run`` does."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Preloaded(argv, stdout=out, stderr=err, env={**os.environ, **environment}, cwd=ROOT)
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
        printed = []
        for file in (out, err):
            file.seek(0)
            printed.append(file.read().decode())
    return subprocess.CompletedProcess(argv, code, *printed)


def _adopt() -> None:
    from agent.network import retry
    from fedloom.cli.simulation import view as simulation_view
    from fedloom.comparison import trial
    from tests.support.forks import quick_children

    retry.BASE_S = retry.CAP_S = AGAIN_S
    simulation_view.POLL_S = trial.POLL_S = LOOK_S
    quick_children.adopt()


if __name__ == "__main__":
    main(_MODULES, _adopt)
