"""What ``coordinator serve`` cannot listen on is refused in words, before anything is made."""

import socket
import sys
from pathlib import Path

import pytest
import trustme

from tests.cli.conftest import Run
from tests.support.forks.preloaded import Preloaded
from tests.support.processes import Process
from tests.support.server import free_port


def serve(run: Run, folder: Path, *arguments: object) -> str:
    """The message of a start that is refused."""
    data = folder / "data"
    ran = run("coordinator", "serve", "--data-dir", data, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Fedloom coordinator on" not in ran.err
    assert not data.exists()
    return ran.err


@pytest.mark.parametrize("given", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_port_in_use_is_named(run: Run, tmp_path: Path, given: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = serve(run, tmp_path, "--host", given, "--port", port)
    assert said.startswith(f"fedloom: port {port} of ")
    assert said.endswith(" is in use; choose another with --port\n")


@pytest.mark.parametrize("host", ["nohost.invalid", "999.1.1.1"])
def test_a_host_without_an_address_is_named(run: Run, tmp_path: Path, host: str) -> None:
    assert f"fedloom: --host {host}: no address is known for this name" in serve(run, tmp_path, "--host", host)


def test_an_address_of_another_machine_is_refused(run: Run, tmp_path: Path) -> None:
    said = serve(run, tmp_path, "--host", "192.0.2.1")  # reserved for examples
    assert said == "fedloom: 192.0.2.1 is no address of this machine; choose another with --host\n"


def test_a_certificate_and_a_key_that_cannot_be_used_are_told_apart(run: Run, tmp_path: Path) -> None:
    authority = trustme.CA()
    ours, theirs = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    cert, key, other_key, text, empty = (tmp_path / name for name in ("c.pem", "k.pem", "o.pem", "text", "empty"))
    ours.cert_chain_pems[0].write_to_path(cert)
    ours.private_key_pem.write_to_path(key)
    theirs.private_key_pem.write_to_path(other_key)
    text.write_text("hello\n")
    empty.touch()
    for bad in (text, empty, key):
        said = serve(run, tmp_path, "--tls-cert", bad, "--tls-key", key)
        assert said == f"fedloom: --tls-cert: {bad} is not a PEM certificate\n"
    for bad in (text, empty, cert):
        said = serve(run, tmp_path, "--tls-cert", cert, "--tls-key", bad)
        assert said == f"fedloom: --tls-key: {bad} is not a private key in PEM\n"
    said = serve(run, tmp_path, "--tls-cert", cert, "--tls-key", other_key)
    assert said == f"fedloom: --tls-key: {other_key} is not the key of the certificate {cert}\n"


@pytest.mark.parametrize("below", ["", "below", "far/below"])
@pytest.mark.parametrize("command", ["serve", "engine", "new-key"])
def test_a_file_in_the_place_of_the_data_folder_is_named(run: Run, tmp_path: Path, command: str, below: str) -> None:
    file = tmp_path / "file"
    file.touch()
    refused = run("coordinator", command, "--data-dir", file / below)
    assert refused.code == 2
    assert refused.err == f"fedloom: {file} is a file, not a folder; see --data-dir or FEDLOOM_DATA_DIR\n"


def test_the_address_is_printed_once_the_service_listens_and_its_end_is_a_line(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "fedloom", "coordinator", "serve", "--host", "0.0.0.0", "--port", str(port)]
    service = Process([*argv, "--data-dir", str(tmp_path / "data")], tmp_path / "log", popen=Preloaded)
    try:
        service.wait_to_print(
            f"Fedloom coordinator on http://127.0.0.1:{port} and every other IPv4 address of this machine"
        )
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        service.stop()
        assert service.printed().rstrip().endswith("stopped")
    finally:
        service.kill()
