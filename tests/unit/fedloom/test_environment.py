"""Clients and agents take proxies and certificate authorities from the environment by the same rules."""

import asyncio
import os
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import agent.errors
import fedloom.errors
from fedloom.client import Client
from tests.support.ledgers import api_of
from tests.support.server import free_port
from tests.unit.stub_server import Stub, reply, stub_server

trustme = pytest.importorskip("trustme")

STORAGE = reply(200, '{"n_blobs": 1, "n_bytes": 2, "bytes_by_kind": {}}')
SECRET = "fla_not-for-a-proxy"
Ask = Callable[..., None]


def ask_as_client(url: str, ca_file: Path | None = None, *, insecure: bool = False) -> None:
    with Client(url, SECRET, ca_file=ca_file, insecure=insecure) as client:
        client.storage()


def ask_as_agent(url: str, ca_file: Path | None = None, *, insecure: bool = False) -> None:
    async def ask() -> None:
        api = api_of(url, SECRET, ca_file=ca_file, insecure=insecure)
        try:
            await api.acquire("instance-1")
        finally:
            await api.close()

    asyncio.run(ask())


SIDES = pytest.mark.parametrize(
    ("ask", "bad_environment", "unreachable"),
    [
        pytest.param(
            ask_as_client, fedloom.errors.BadEnvironment, fedloom.errors.Unreachable, id="client"
        ),
        pytest.param(
            ask_as_agent, agent.errors.BadEnvironment, agent.errors.CoordinatorUnreachable, id="agent"
        ),
    ],
)  # fmt: skip
Kind = type[Exception]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("fedloom.transport.BACKOFF_S", 0.0)


@pytest.fixture
def proxy() -> Iterator[Stub]:
    """A proxy that refuses everything, and records what it is asked for."""
    with stub_server(reply(403, "no")) as stub:
        yield stub


def refused(ask: Ask, kind: Kind, *arguments: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        ask(*arguments, **options)
    assert SECRET not in str(caught.value)
    return str(caught.value)


@SIDES
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_proxy_sees_the_secrets_for_this_machine(
    ask: Ask, bad_environment: Kind, unreachable: Kind, name: str, proxy: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, proxy.url)
    headers = {"Fedloom-Protocol": "1"}
    with stub_server(reply(503, "{}", **headers)) as coordinator:
        refused(ask, Exception, coordinator.url)
    assert coordinator.seen
    assert proxy.seen == []


@SIDES
@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
def test_plain_http_to_another_host_does_not_go_through_a_proxy(
    ask: Ask, bad_environment: Kind, unreachable: Kind, name: str, proxy: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, proxy.url)
    assert refused(ask, bad_environment, "http://fed.example.invalid", insecure=True).startswith(f"{name} names a")
    assert proxy.seen == []


@SIDES
def test_a_proxy_that_fails_is_named_with_its_variable(
    ask: Ask, bad_environment: Kind, unreachable: Kind, proxy: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//user:word@"))
    said = refused(ask, unreachable, "https://fed.example.invalid")
    assert f"through the proxy {proxy.url}, which HTTPS_PROXY names: 403" in said
    assert {method for method, *_ in proxy.seen} == {"CONNECT"}
    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{free_port()}")
    assert "which HTTPS_PROXY names: connection refused" in refused(ask, unreachable, "https://fed.example.invalid")


@SIDES
@pytest.mark.parametrize("no_proxy", ["localhost,[::1]", "fd00::/8", "[::1]:80,127.0.0.1"])
@pytest.mark.parametrize("proxy_url", ["socks5://127.0.0.1:1080", "http://127.0.0.1:9", "ftp://x", "a b"])
def test_this_machine_is_asked_whatever_proxies_are_named(
    ask: Ask,
    bad_environment: Kind,
    unreachable: Kind,
    no_proxy: str,
    proxy_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy_url)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert "refused" in refused(ask, unreachable, f"http://127.0.0.1:{free_port()}")


@SIDES
@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
def test_authorities_that_are_not_there_are_named(
    ask: Ask, bad_environment: Kind, unreachable: Kind, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "none.pem"))
    said = refused(ask, bad_environment, "https://127.0.0.1:1")
    assert said == f"{name} names {tmp_path / 'none.pem'}, which is not there"
    (tmp_path / "none.pem").write_text("nothing")
    assert "holds no certificate" in refused(ask, bad_environment, "https://127.0.0.1:1")


def server_context(ca: Any, host: str = "127.0.0.1", **dates: datetime) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host, **dates).configure_cert(tls)
    return tls


@SIDES
@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_the_authorities_of_the_environment_are_trusted(
    ask: Ask, bad_environment: Kind, unreachable: Kind, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
    with stub_server(reply(418, ""), tls=server_context(ca)) as stub:
        refused(ask, Exception, stub.url)
    assert stub.seen


@SIDES
@pytest.mark.parametrize(
    ("host", "from_days", "to_days", "says"),
    [
        ("127.0.0.1", -9, -1, "its certificate has expired; renew it, or look at the clock of this machine"),
        ("127.0.0.1", 1, 9, "its certificate is not yet valid; look at the clocks of both machines"),
        ("127.0.0.2", -1, 9, "its certificate is for another host (IP address mismatch"),
    ],
)
def test_a_certificate_that_its_authority_made_is_refused_with_the_reason(
    ask: Ask,
    bad_environment: Kind,
    unreachable: Kind,
    host: str,
    from_days: int,
    to_days: int,
    says: str,
    tmp_path: Path,
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    now = datetime.now(UTC)
    dates = {"not_before": now + timedelta(from_days), "not_after": now + timedelta(to_days)}
    with stub_server(reply(418, ""), tls=server_context(ca, host, **dates)) as stub:
        said = refused(ask, unreachable, stub.url, tmp_path / "ca.pem")
    assert says in said


@SIDES
def test_an_unknown_authority_is_to_be_named(ask: Ask, bad_environment: Kind, unreachable: Kind) -> None:
    with stub_server(reply(418, ""), tls=server_context(trustme.CA())) as stub:
        said = refused(ask, unreachable, stub.url)
    assert "its certificate is not trusted (" in said
    assert said.endswith("name its CA with --ca-file")
