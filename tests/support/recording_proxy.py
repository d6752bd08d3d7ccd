"""A proxy before a coordinator that keeps everything that an agent sends."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx

from shared.digest import sha256_hex
from tests.support.http_server import HttpServer

_HOP = {"connection", "host", "transfer-encoding", "content-length", "keep-alive"}
TIMEOUT_S = 120


@dataclass(frozen=True)
class Sent:
    """One request. body: of what is JSON; None for other bodies and for none. n_bytes, sha256: of any body."""

    method: str
    path: str
    body: Any
    n_bytes: int
    sha256: str


@dataclass
class Recorder:
    """The requests that passed, in the order of their arrival. url: where the agent sends them."""

    url: str = ""
    sent: list[Sent] = field(default_factory=list)

    def bodies(self, end: str) -> list[Any]:
        """The JSON bodies of the requests to paths with this end."""
        return [each.body for each in self.sent if each.path.endswith(end) and each.body is not None]


@contextmanager
def recording_proxy(upstream: str, cut_every: int = 0) -> Iterator[Recorder]:
    """Pass requests on to *upstream* and record them while the block runs.

    cut_every: every so many requests, the connection is cut: by turns before the request is passed on, and after it.
    """
    recorder = Recorder()
    client = httpx.Client(base_url=upstream, timeout=TIMEOUT_S)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            is_json = "json" in self.headers.get("Content-Type", "")
            body = json.loads(data) if is_json and data else None
            recorder.sent.append(Sent(self.command, self.path, body, len(data), sha256_hex(data)))
            n_cuts, to_next = divmod(len(recorder.sent), cut_every) if cut_every else (0, 1)
            if to_next == 0 and n_cuts % 2:
                self.close_connection = True
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            try:
                reply = client.request(self.command, self.path, content=data, headers=headers)
            except (httpx.HTTPError, RuntimeError):  # the block ends, or the coordinator has
                self.close_connection = True
                return
            if to_next == 0:
                self.close_connection = True
                return
            self.send_response(reply.status_code)
            for name, value in reply.headers.items():
                if name.lower() not in _HOP | {"content-encoding"}:
                    self.send_header(name, value)
            if reply.status_code != 204:
                self.send_header("Content-Length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    server = HttpServer(("127.0.0.1", 0), Handler)
    recorder.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        client.close()
