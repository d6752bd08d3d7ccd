"""A pytest plugin by which the tests of some files run in one worker, in order: they share what takes long to make."""

from typing import Any

import pytest

try:
    from xdist.scheduler import LoadGroupScheduling
except ImportError:  # without it there is one worker
    LoadGroupScheduling = None  # type: ignore[assignment, misc]

SHARING = (
    "tests/attacks/",
    "tests/agent/disclosure/test_what_leaves.py",
    "tests/e2e/test_simulation.py",
    "tests/e2e/test_wheel.py",
    "tests/faults/test_crash_points.py",
    "tests/faults/test_network.py",
)
"""Where these files are: folders and files. A marker cannot say it: the worker that knows it does not give out work."""

if LoadGroupScheduling is not None:

    class _OneWorkerAFile(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file.startswith(SHARING) else str(super()._split_scope(nodeid))

    @pytest.hookimpl
    def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
        """Give out work by group, as with ``--dist loadgroup``, and these files whole."""
        return _OneWorkerAFile(config, log) if config.getvalue("dist") == "loadgroup" else None
