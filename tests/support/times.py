"""A plugin of pytest that says at the end of a run where its time went: by folder, and the slowest tests."""

import time
from collections import Counter

import pytest

_SLOWEST = 10


class Times:
    """Sums up what the reports say; where several workers run tests, all their reports come to one place."""

    def __init__(self, n_workers: int) -> None:
        self._n_workers = n_workers
        self._began = time.monotonic()
        self._of_tests: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._of_tests[report.nodeid] += report.duration  # of set-up, call and teardown

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._of_tests:
            return
        wall_s = time.monotonic() - self._began
        seconds: Counter[str] = Counter()
        tests: Counter[str] = Counter()
        for test, took_s in self._of_tests.items():
            seconds[_folder(test)] += took_s
            tests[_folder(test)] += 1
        workers = f"{self._n_workers} worker{'s' if self._n_workers > 1 else ''}"
        terminalreporter.section("where the time went")
        terminalreporter.write_line(f"{seconds.total():8.1f} s of work in {wall_s:.1f} s with {workers}")
        for folder, took_s in seconds.most_common():
            terminalreporter.write_line(f"{took_s:8.1f} s  {folder}, {tests[folder]} tests")
        terminalreporter.write_line(f"the slowest {min(_SLOWEST, len(self._of_tests))}:")
        for test, took_s in self._of_tests.most_common(_SLOWEST):
            terminalreporter.write_line(f"{took_s:8.1f} s  {test.removeprefix('tests/')[:110]}")


def _folder(test: str) -> str:
    """Of a test's name: its first two folders, if it has so many."""
    return "/".join(test.partition("::")[0].split("/")[:-1][:2]) or "."


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # a worker, whose reports are summed up elsewhere
    config.pluginmanager.register(Times(config.getoption("numprocesses", None) or 1), "times")
