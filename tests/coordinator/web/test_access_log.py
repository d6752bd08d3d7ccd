"""The log of requests, which ``--verbose`` shows."""

import logging
import time

import pytest

from tests.support.raw_http import ask, request
from tests.support.server import RunningCoordinator


def test_a_long_path_is_cut_in_the_log(coordinator: RunningCoordinator, caplog: pytest.LogCaptureFixture) -> None:
    def lines() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.name == "coordinator.access"]

    with caplog.at_level(logging.DEBUG, "coordinator.access"):
        assert ask(coordinator.url, request("GET", "/long/" + "x" * 60_000)).status == 404
        assert ask(coordinator.url, request("GET", "/short/" + "y" * 100)).status == 404
        until = time.monotonic() + 5
        while len(lines()) < 2 and time.monotonic() < until:  # they are written after the replies
            time.sleep(0.02)
    long, short = sorted(lines())
    assert long.startswith("GET /long/xxx")
    assert " 404 " in long
    assert len(long) < 300
    assert "/short/" + "y" * 100 + " 404 " in short
