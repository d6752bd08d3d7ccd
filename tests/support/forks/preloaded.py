"""Processes that start at once: forked from one that has imported the coordinator and the agent's parent.

A test that starts eighty of them would otherwise spend minutes on imports. Each command still runs in its own process,
with three differences: agents reconnect without jitter after a cut, simulations poll often enough to see each round of
a tiny model, and training children may be forked too.
"""

import os
import subprocess
import tempfile
from collections.abc import Sequence

from tests.support.forks.fork_server import main
from tests.support.forks.forked import ROOT, Forked, Server

RETRY_S = 0.2
POLL_S = 0.1
_MODULES = (
    *("fedloom.cli", "coordinator.main", "agent.main", "migrations"),
    # libraries import these at first use
    *("aiosqlite", "asyncpg", "uvicorn.lifespan.on", "uvicorn.loops.uvloop", "uvicorn.protocols.http.httptools_impl"),
    *("sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.dialects.postgresql.asyncpg"),
    # commands import these when called
    *(
        "fedloom.cli.simulation.compare",
        "fedloom.cli.simulation.simulate",
        "fedloom.cli.simulation.view",
        "fedloom.simulation.run",
    ),
    *("fedloom.comparison.comparison", "fedloom.comparison.running.trial"),
)


class Preloaded(Forked):
    """A Fedloom process with the interface of ``subprocess.Popen``."""

    server = Server("tests.support.forks.preloaded")


def run(argv: Sequence[str], timeout_s: float = 400, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, like ``subprocess.run``."""
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
    from fedloom.comparison.running import trial
    from tests.support.forks import quick_children

    retry.BASE_S = retry.CAP_S = RETRY_S
    simulation_view.POLL_S = trial.POLL_S = POLL_S
    quick_children.adopt()


if __name__ == "__main__":
    main(_MODULES, _adopt)
