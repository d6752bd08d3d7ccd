"""A TLS handshake has the time of a header, and handshakes in progress have limits."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from coordinator import main
from coordinator.main import Listen
from coordinator.settings import LimitSettings
from tests.support.operator import Operator
from tests.support.raw_http import connected, is_closed
from tests.support.server import free_port, quick_settings

HALF_HELLO = bytes.fromhex("160301020001")
HANDSHAKE_S = 2.0
CONNECTIONS = 80
AT_ONCE = CONNECTIONS // 4 // 2
"""Handshakes in progress of one address."""


def is_answered(url: str, folder: Path) -> bool:
    """Whether a new caller is answered, who then leaves: a server that stops waits for those who stay."""
    operator = Operator(url, "flo_none", folder / "ca.pem")
    try:
        return operator.is_answered()
    finally:
        operator.http.close()


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.fixture
def tls_url(data_dir: Path, tmp_path: Path) -> Iterator[str]:
    """A coordinator that serves TLS, as the command starts it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "chain.pem"))
    settings = quick_settings(data_dir, None, limits=LimitSettings(header_s=HANDSHAKE_S, connections=CONNECTIONS))
    listen = Listen("127.0.0.1", free_port(), tmp_path / "chain.pem", tmp_path / "chain.pem")
    server = main._server(settings, listen, with_engine=False)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield f"https://localhost:{listen.port}"
    finally:
        server.should_exit = True
        thread.join(20)


def test_who_does_not_end_the_handshake_is_disconnected(tls_url: str, tmp_path: Path) -> None:
    plain = tls_url.replace("https://localhost", "tcp://127.0.0.1")
    began = time.monotonic()
    with connected(plain) as silent, connected(plain, HALF_HELLO) as half:
        assert is_answered(tls_url, tmp_path)
        for connection in (silent, half):
            assert is_closed(connection)
    assert 0.9 * HANDSHAKE_S < time.monotonic() - began < 10


@pytest.mark.parametrize("sent", [b"", HALF_HELLO], ids=["silent", "half a hello"])
def test_half_open_handshakes_are_limited_from_the_moment_they_are_accepted(
    tls_url: str, tmp_path: Path, sent: bytes
) -> None:
    plain = tls_url.replace("https://localhost", "tcp://127.0.0.1")
    assert is_answered(tls_url, tmp_path)
    files = open_files()
    began = time.monotonic()
    with ExitStack() as stack:
        stuck = [stack.enter_context(connected(plain, sent)) for _ in range(8 * AT_ONCE)]
        assert is_answered(tls_url, tmp_path)
        assert all(is_closed(each) for each in stuck[:-AT_ONCE])
        # both ends are in this process
        assert open_files() - files <= len(stuck) + AT_ONCE + 4
        assert time.monotonic() - began < 0.8 * HANDSHAKE_S, "their time was over: no limit had to close them"
    assert is_answered(tls_url, tmp_path)


def test_more_honest_callers_than_there_may_be_handshakes_are_all_answered(tls_url: str, tmp_path: Path) -> None:
    callers = [Operator(tls_url, "flo_none", tmp_path / "ca.pem") for _ in range(4 * AT_ONCE)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(Operator.is_answered, callers))
    for each in callers:
        each.http.close()


def test_what_is_no_tls_is_disconnected_and_others_are_served(tls_url: str, tmp_path: Path) -> None:
    plain = tls_url.replace("https://localhost", "tcp://127.0.0.1")
    for sent in (b"GET /healthz HTTP/1.1\r\n\r\n", bytes(100)):
        with connected(plain, sent) as connection:
            while connection.recv(100):  # an alert, perhaps
                pass
    assert is_answered(tls_url, tmp_path)
