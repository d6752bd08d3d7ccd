"""HTTP by hand: what no client library sends, such as a header without its body."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Reply:
    """A reply. headers: by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json", self
        read: dict[str, Any] = json.loads(self.body)
        return read


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A request, ready to send. headers: underscores stand for hyphens; Content-Length is that of the body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"Host": "test", **({"Content-Length": str(len(body))} if body else {}), **named}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def connected(url: str, sent: bytes = b"", timeout_s: float = 20) -> Iterator[socket.socket]:
    """A connection over which bytes were sent."""
    target = urlsplit(url)
    with socket.create_connection((target.hostname, target.port), timeout=timeout_s) as connection:
        connection.sendall(sent)
        yield connection


def read_reply(connection: socket.socket, method: str = "GET") -> Reply:
    """Read one reply. Raises ConnectionError if the connection ends before it is complete. method: the request's."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (re.split(": *", line, maxsplit=1) for line in lines)}
    while method != "HEAD" and len(body) < int(headers.get("content-length", "0")):
        body += _more(connection)
    return Reply(int(first.split()[1]), headers, body)


def ask(url: str, sent: bytes) -> Reply:
    """Send a request over a connection of its own. Returns the reply."""
    with connected(url, sent) as connection:
        return read_reply(connection, sent.split(b" ")[0].decode())


def is_closed(connection: socket.socket) -> bool:
    """Wait until the other side closes the connection; False if it sends something or the time-out ends first."""
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def _more(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionError
    return piece
