"""Agents and clients accept the same URLs for sending secrets."""

from collections.abc import Callable
from typing import Any

import pytest

from agent.errors import InsecureCoordinator, InvalidOption
from fedloom.client import Client
from fedloom.errors import BadUrl, InsecureUrl
from shared.network.urls import is_confidential
from tests.support.ledgers import api_of

CONFIDENTIAL = [
    "http://localhost",
    "http://LOCALHOST:8470",
    "http://127.0.0.1:8470",
    "http://127.0.0.2",
    "http://[::1]",
    "http://[::1]:8470/prefix",
    "https://localhost:1",
    "https://host",
    "https://x.localhost",
    "https://10.0.0.1:8470",
    "https://[2001:db8::1]:8470",
]
IN_THE_CLEAR = [
    "http://host",
    "http://10.0.0.1:8470",
    "http://0.0.0.0:8470",
    "http://x.localhost",
    "http://localhost.",
    "http://localhost.evil",
    "http://127.0.0.1.evil",
    "http://127.1",
    "http://[2001:db8::1]",
    "http://evil?@localhost",
    "http://evil#@localhost",
]
NO_URL = [
    "",
    "host",
    "host:8470",
    "localhost:8470",
    "127.0.0.1:8470",
    "//localhost",
    "ftp://localhost",
    "http://",
    "http:///path",
    "http://:8470",
    "http://[::1",
    "http://[::1]evil",
    "http://localhost:port",
    "http://localhost:99999",
    "http://local host",
    "https://user@host",
    "https://user:pass@host",
    "http://user:pass@localhost",
    "http://localhost:80@evil",
    "http://localhost\\@evil",
    "http://evil\\.localhost",
    "https://a b\x00",
]

Connect = Callable[..., object]
CONNECTIONS = pytest.mark.parametrize(
    ("connect", "no_url", "insecure"),
    [
        pytest.param(api_of, InvalidOption, InsecureCoordinator, id="agent"),
        pytest.param(Client, BadUrl, InsecureUrl, id="client"),
    ],
)


@pytest.fixture(autouse=True)
def no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any) -> None:
        raise AssertionError("a name was resolved")

    monkeypatch.setattr("socket.getaddrinfo", resolve)


@pytest.mark.parametrize("url", CONFIDENTIAL)
@CONNECTIONS
def test_confidential(connect: Connect, no_url: type[Exception], insecure: type[Exception], url: str) -> None:
    assert is_confidential(url)
    connect(url)


@pytest.mark.parametrize("url", IN_THE_CLEAR)
@CONNECTIONS
def test_in_the_clear(connect: Connect, no_url: type[Exception], insecure: type[Exception], url: str) -> None:
    assert not is_confidential(url)
    with pytest.raises(insecure, match="insecure"):
        connect(url)
    connect(url, insecure=True)


@pytest.mark.parametrize("url", NO_URL)
@CONNECTIONS
def test_no_url(connect: Connect, no_url: type[Exception], insecure: type[Exception], url: str) -> None:
    with pytest.raises(ValueError):
        is_confidential(url)
    for is_allowed in (False, True):
        with pytest.raises(no_url, match="not a valid URL of a coordinator"):
            connect(url or "-", insecure=is_allowed)
