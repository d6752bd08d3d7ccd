"""Prints the seed of the fault tests, at the start and with each failure."""

from collections.abc import Generator

import pytest

from tests.support.suite.seeds import VARIABLE, seed_of_today


def pytest_report_header() -> str:
    return f"seed of faults at random places: {VARIABLE}={seed_of_today()}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:  # the header is not shown with -q
        report.sections.append(("seed", f"{VARIABLE}={seed_of_today()}"))
    return report
