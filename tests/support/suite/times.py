"""A pytest plugin that reports at the end of a run where its time went: by folder, and the slowest tests."""

import time
from collections import defaultdict
from collections.abc import Mapping

import pytest

_SLOWEST = 10


class Times:
    """Sums up durations from the reports. With several workers, the controlling process gets all reports."""

    def __init__(self, n_workers: int) -> None:
        self._n_workers = n_workers
        self._began = time.monotonic()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] += report.duration  # one report each for setup, call and teardown

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._seconds:
            return
        wall_s = time.monotonic() - self._began
        seconds: defaultdict[str, float] = defaultdict(float)
        tests: defaultdict[str, int] = defaultdict(int)
        for test, took_s in self._seconds.items():
            seconds[_folder(test)] += took_s
            tests[_folder(test)] += 1
        workers = f"{self._n_workers} worker{'s' if self._n_workers > 1 else ''}"
        terminalreporter.section("where the time went")
        terminalreporter.write_line(f"{sum(seconds.values()):8.1f} s of work in {wall_s:.1f} s with {workers}")
        for folder in _longest_first(seconds):
            terminalreporter.write_line(f"{seconds[folder]:8.1f} s  {folder}, {tests[folder]} tests")
        terminalreporter.write_line(f"the slowest {min(_SLOWEST, len(self._seconds))}:")
        for test in _longest_first(self._seconds)[:_SLOWEST]:
            terminalreporter.write_line(f"{self._seconds[test]:8.1f} s  {test.removeprefix('tests/')[:110]}")


def _longest_first(seconds: Mapping[str, float]) -> list[str]:
    return sorted(seconds, key=lambda name: -seconds[name])


def _folder(test: str) -> str:
    """The first two folders of a test's path, or fewer if it has fewer."""
    return "/".join(test.partition("::")[0].split("/")[:-1][:2]) or "."


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # a worker: the controlling process sums up its reports
    config.pluginmanager.register(Times(config.getoption("numprocesses", None) or 1), "times")
