"""The client of operators and scripts believes no encoding, reads no endless reply, and follows no redirect."""

import gzip

import pytest

from fedloom import transport
from fedloom.errors import Unreachable
from fedloom.transport import Transport
from shared.wire.base import PROTOCOL, PROTOCOL_HEADER
from tests.unit.stub_server import Answer, reply, stub_server

OURS = {PROTOCOL_HEADER: PROTOCOL}
PATH = "/v1/campaigns"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BACKOFF_S", 0.001)


def read(client: Transport, *, streamed: bool) -> None:
    if streamed:
        with client.stream(PATH, {}, read_timeout_s=5) as body:
            body.read()
    else:
        client.request("GET", PATH)


def error_of(answer: Answer, *, streamed: bool = False) -> str:
    with stub_server(answer) as stub:
        client = Transport(stub.url, "flo_key", ca_file=None, insecure=False, timeout_s=5)
        with pytest.raises(Unreachable) as caught:
            read(client, streamed=streamed)
        client.close()
        assert {headers["accept-encoding"] for _, _, headers in stub.seen} == {"identity"}
    return str(caught.value)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [200, 404])
def test_an_encoded_reply_is_refused(streamed: bool, status: int) -> None:
    answer = reply(status, gzip.compress(bytes(1 << 20)), Content_Encoding="gzip", **OURS)
    assert "the reply is encoded (gzip), which nobody asked for" in error_of(answer, streamed=streamed)


def test_a_reply_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "REPLY_BYTES", 1000)
    assert "the reply has more than 1,000 bytes, and is not read" in error_of(reply(200, b"[" * 1001, **OURS))


def test_a_redirect_is_not_followed() -> None:
    with stub_server(reply(200, "{}", **OURS)) as elsewhere:
        said = error_of(reply(307, Location=f"{elsewhere.url}/", **OURS))
        assert elsewhere.seen == []
    assert "307" in said
