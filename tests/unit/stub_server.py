"""An HTTP server with scripted answers, for replies that a real coordinator gives only by accident."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from tests.support.http_server import HttpServer

Answer = Callable[[BaseHTTPRequestHandler], None]


class Stub:
    """Answers requests in order and repeats the last answer. ``seen``: (method, path, headers) of each request."""

    def __init__(self, url: str, answers: list[Answer]) -> None:
        self.url = url
        self.answers = answers
        self.seen: list[tuple[str, str, dict[str, str]]] = []

    def next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def stub_server(*answers: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Stub]:
    """Serve while the block runs; over TLS if *tls* is given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            stub.seen.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            stub.next()(self)

        def __getattr__(self, name: str) -> Callable[[], None]:
            if name.startswith("do_"):
                return self._handle
            raise AttributeError(name)

        def log_message(self, *_: object) -> None:
            return

    server = HttpServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    stub = Stub(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}", list(answers))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reply(status: int, body: bytes | str = b"", kind: str = "application/json", **headers: str) -> Answer:
    """A complete reply."""
    data = body.encode() if isinstance(body, str) else body

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Type": kind, **{key.replace("_", "-"): v for key, v in headers.items()}}.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    return answer


def cut_after(status: int, body: bytes, n_bytes: int, kind: str = "application/octet-stream") -> Answer:
    """A reply whose connection breaks after *n_bytes* of its body."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[:n_bytes])
        request.close_connection = True

    return answer


def hang_up(request: BaseHTTPRequestHandler) -> None:
    """Close the connection without a reply."""
    request.close_connection = True
