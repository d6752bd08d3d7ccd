"""A small limit of open files leaves room for some connections, and the log tells what it costs."""

import logging
import resource

import pytest

from coordinator.main import _most_connections


@pytest.mark.parametrize(
    ("files", "most"),
    [(64, 16), (200, 16), (215, 16), (217, 17), (1024, 824), (4096, 3896), (8391, 8191)],
)
def test_few_files_leave_few_connections_and_a_warning(files: int, most: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert _most_connections(8192, files) == most
    assert caplog.messages == [
        f"at most {files:,} open files are allowed, so at most {most:,} connections are kept instead of "
        "limits.connections, 8,192; raise the limit (ulimit -n, LimitNOFILE)"
    ]


@pytest.mark.parametrize("files", [8392, 1 << 20, resource.RLIM_INFINITY])
def test_many_files_leave_the_connections_as_set(files: int, caplog: pytest.LogCaptureFixture) -> None:
    assert _most_connections(8192, files) == 8192
    assert not caplog.messages
