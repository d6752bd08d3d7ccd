"""The address that ``coordinator serve`` prints is one that commands on the machine take."""

import re
import socket
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.support.forks.preloaded import Preloaded
from tests.support.processes import Process
from tests.support.server import free_port


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
ENCRYPTED = "Without --tls-cert all traffic is unencrypted"


@pytest.mark.parametrize(
    ("host", "printed", "is_local"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.2", True),
        ("localhost", "localhost", True),
        ("0.0.0.0", "127.0.0.1", False),
        (" 0 ", "127.0.0.1", False),
        pytest.param("::1", "[::1]", True, marks=IPV6),
        pytest.param("[0:0::1]", "[::1]", True, marks=IPV6),
        pytest.param("::", "[::1]", False, marks=IPV6),
    ],
)
def test_the_printed_address_works(run: Run, tmp_path: Path, host: str, printed: str, is_local: bool) -> None:
    port = free_port(printed.strip("[]"))
    argv = [sys.executable, "-m", "fedloom", "coordinator", "serve", "--host", host, "--port", str(port)]
    service = Process([*argv, "--data-dir", str(tmp_path / "data")], tmp_path / "log", popen=Preloaded)
    try:
        url = service.wait_to_print(r"FEDLOOM_URL=(\S+)")[1]
        service.wait_to_print("Fedloom coordinator on " + re.escape(url))
        assert url.startswith(f"http://{printed}:")
        assert (ENCRYPTED not in service.printed()) == is_local
        assert run("--url", url, "--key-file", tmp_path / "data" / "operator.key", "campaign", "list").code == 0
    finally:
        service.kill()


@pytest.mark.parametrize(
    "host", ["", " ", "http://here", "here:8470", "a b", "fe80::1%eth0", "[::1]:8470", "::1 ::1", "9" * 300]
)
def test_what_is_no_address_is_refused(run: Run, tmp_path: Path, host: str) -> None:
    refused = run("coordinator", "serve", "--host", host, "--data-dir", tmp_path / "data")
    assert refused.code == 2
    assert "is neither an address nor a host's name" in " ".join(refused.err.replace("│", " ").split())
    assert not (tmp_path / "data").exists()
