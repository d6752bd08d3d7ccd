"""A small limit of open files leaves room for some connections, and the log tells what it costs."""

import logging
import resource

import pytest

from coordinator.process.open_files import most_chunks, most_connections


@pytest.mark.parametrize(
    ("files", "most"),
    [(64, 16), (200, 16), (287, 16), (289, 17), (1024, 568), (4096, 2872), (10439, 8191)],
)
def test_few_files_leave_few_connections_and_a_warning(files: int, most: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert most_connections(8192, files) == most
    assert caplog.messages == [
        f"at most {files:,} open files are allowed, so at most {most:,} connections are kept instead of "
        "limits.connections, 8,192; raise the limit (ulimit -n, LimitNOFILE)"
    ]


@pytest.mark.parametrize("files", [10440, 1 << 20, resource.RLIM_INFINITY])
def test_many_files_leave_the_connections_as_set(files: int, caplog: pytest.LogCaptureFixture) -> None:
    assert most_connections(8192, files) == 8192
    assert not caplog.messages


@pytest.mark.parametrize(
    ("files", "chunks"), [(64, 16), (1024, 256), (8192, 2048), (20_000, 2048), (resource.RLIM_INFINITY, 2048)]
)
def test_chunks_that_are_received_have_files_of_their_own(files: int, chunks: int) -> None:
    assert most_chunks(files) == chunks
