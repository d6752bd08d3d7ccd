"""TLS from end to end, and the refusal to send secrets without it."""

import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from shared.credentials import read_secret
from tests.support.forks import preloaded
from tests.support.operator import Operator
from tests.support.processes import Process, QuickAgent, wait_until
from tests.support.server import free_port


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A folder with ca.pem, and chain.pem and key.pem for localhost."""
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost")
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    for part in certificate.cert_chain_pems:
        part.write_to_path(str(tmp_path / "chain.pem"), append=True)
    return tmp_path


def enroll(home: Path, url: str, token: str, *more: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "fedloom", "agent", "enroll", "--home", str(home), "--name", "ada"]
    return preloaded.run([*argv, "--coordinator", url, *more], FEDLOOM_TOKEN=token)


def test_an_agent_works_over_tls_with_a_private_authority(authority: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "fedloom", "coordinator", "serve", "--port", str(port)]
    argv += ["--data-dir", str(authority / "data"), "--tls-cert", str(authority / "chain.pem")]
    argv += ["--tls-key", str(authority / "key.pem")]
    service = Process(argv, authority / "coordinator.log", popen=preloaded.Preloaded)
    try:
        service.wait_to_print("Fedloom coordinator on")
        key = read_secret(authority / "data" / "operator.key")
        url = f"https://localhost:{port}"
        operator = Operator(url, key, ca_file=authority / "ca.pem")
        wait_until(operator.is_answered, "the service")
        token = operator.token()
        home = authority / "home"
        untrusted = enroll(home, url, token)
        assert untrusted.returncode == 3
        assert "its certificate is not trusted" in untrusted.stderr
        trusted = enroll(home, url, token, "--ca-file", str(authority / "ca.pem"))
        assert trusted.returncode == 0, trusted.stderr
        agent = QuickAgent(home, ["false"])
        agent.start()
        agent.process.wait_to_print("waiting for work")
        wait_until(lambda: operator.get("/v1/agents/ada")["last_seen_at"], "the agent's call")
        assert agent.process.stop() == 0
    finally:
        service.kill()


def test_plain_http_to_another_host_is_refused_before_the_token_leaves(tmp_path: Path) -> None:
    refused = enroll(tmp_path / "home", "http://192.0.2.1:8470", "fle_secret-token")
    assert refused.returncode == 2
    assert "is not encrypted: use https://" in refused.stderr
    assert "fle_secret-token" not in refused.stderr
