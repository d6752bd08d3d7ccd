"""A fake of the Hugging Face hub on loopback, for the real libraries."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.http_server import HttpServer

COMMIT = "a" * 40
"""The commit of every repository."""


class HubHandler(BaseHTTPRequestHandler):
    """Answers the hub's requests; a subclass defines ``do_GET``."""

    def do_GET(self) -> None:
        raise NotImplementedError

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_json(self, value: Any) -> None:
        self.answer(json.dumps(value).encode(), 200, {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str) -> None:
        """Answer with one of the hub's error codes, such as ``GatedRepo``."""
        self.answer(b"{}", status, {"X-Error-Code": code})

    def answer(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def running_hub(handler: type[HubHandler]) -> Iterator[str]:
    """Run a hub in a thread; yields its address."""
    server = HttpServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
