"""Reports of agents that a new certificate authority of their server cut off until somebody restarted them."""

import asyncio
import ssl
from pathlib import Path

import pytest

from agent.errors import CoordinatorUnreachable
from agent.network.api import CoordinatorApi
from agent.network.retry import until_reached
from shared.wire.base import PROTOCOL, PROTOCOL_HEADER
from tests.support.ledgers import api_of
from tests.unit.stub_server import Stub, reply, stub_server

trustme = pytest.importorskip("trustme")

NO_WORK = reply(204, **{PROTOCOL_HEADER.replace("-", "_"): PROTOCOL})


class Authority:
    """A certificate authority, and TLS of a server with a certificate of it."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.pem: bytes = self._ca.cert_pem.bytes()

    @property
    def tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert("127.0.0.1").configure_cert(context)
        return context


async def ask(api: CoordinatorApi, stub: Stub) -> None:
    await api.acquire("instance-1", 0)
    assert stub.seen


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.network.retry.BASE_S", 0.01)


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("by", ["option", "SSL_CERT_FILE"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order mark"])
def test_a_running_agent_takes_a_new_authority_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, mark: bytes
) -> None:
    old, new, file = Authority(), Authority(), tmp_path / "ca.pem"
    file.write_bytes(old.pem)
    if by != "option":
        monkeypatch.setenv(by, str(file))

    async def work() -> None:
        with stub_server(NO_WORK, tls=old.tls) as first, stub_server(NO_WORK, tls=new.tls) as second:
            api = api_of(first.url, "fla_s", ca_file=file if by == "option" else None)
            try:
                await ask(api, first)
                api._http.base_url = second.url  # the same agent, the coordinator's new certificate
                with pytest.raises(CoordinatorUnreachable, match="its certificate is not trusted"):
                    await ask(api, second)
                with pytest.raises(CoordinatorUnreachable, match="its certificate is not trusted"):
                    await ask(api, second)
                file.write_bytes(mark + new.pem)
                await until_reached(lambda: ask(api, second))
            finally:
                await api.close()

    asyncio.run(asyncio.wait_for(work(), 20))


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
def test_a_file_of_authorities_that_is_lost_or_broken_changes_nothing(tmp_path: Path, content: bytes | None) -> None:
    old, new, file = Authority(), Authority(), tmp_path / "ca.pem"
    file.write_bytes(old.pem)

    async def work() -> None:
        with stub_server(NO_WORK, tls=old.tls) as first, stub_server(NO_WORK, tls=new.tls) as second:
            api = api_of(second.url, "fla_s", ca_file=file)
            try:
                if content is None:
                    file.unlink()
                else:
                    file.write_bytes(content)
                for _ in range(2):
                    with pytest.raises(CoordinatorUnreachable, match="its certificate is not trusted"):
                        await ask(api, second)
                api._http.base_url = first.url
                await ask(api, first)
            finally:
                await api.close()

    asyncio.run(asyncio.wait_for(work(), 20))
