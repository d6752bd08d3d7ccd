"""A judge on loopback: an HTTP server that speaks as OpenAI's does, well or badly."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.http_server import HttpServer

MODEL = "stub-judge"


@dataclass
class Said:
    """What the server replies.

    Args:
        reason: in the status line; None for the usual words.
        body: as it is; None for a chat completion with text and usage.
    """

    text: str = "Good. Rating: [[7]]"
    status: int = 200
    reason: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    usage: Any = field(default_factory=lambda: {"prompt_tokens": 100, "completion_tokens": 10})
    after_s: float = 0.0
    hangs_up: bool = False

    def bytes(self, model: str) -> bytes:
        if self.body is not None:
            return self.body
        message = {"role": "assistant", "content": self.text}
        found = {"model": f"{model}-0613", "choices": [{"message": message}], "usage": self.usage}
        return json.dumps(found).encode()


Script = Callable[[dict[str, Any], int], Said]
"""From a request and its number, from 1, to the reply."""


@dataclass
class JudgeServer:
    """A running server. asked: the bodies of requests; headers: theirs; most_at_once: requests that were in flight."""

    script: Script
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def prompts(self) -> list[str]:
        """The users' messages, in the order in which they came."""
        return [each["messages"][-1]["content"] for each in self.asked]

    def reply(self, body: dict[str, Any], headers: dict[str, str], path: str) -> Said:
        with self._lock:
            self.asked.append(body)
            self.headers.append(headers)
            self.paths.append(path)
            n = len(self.asked)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            said = self.script(body, n)
            time.sleep(said.after_s)
            return said
        finally:
            with self._lock:
                self._now -= 1


@contextmanager
def judge_server(script: Script = lambda _body, _n: Said()) -> Iterator[JudgeServer]:
    """Run a server while the block runs."""
    judge = JudgeServer(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = judge.reply(body, dict(self.headers), self.path)
            if said.hangs_up:
                self.connection.close()
                self.close_connection = True
                return
            payload = said.bytes(body["model"])
            self.send_response(said.status, said.reason)
            for name, value in {"Content-Type": "application/json", **said.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            pass

    server = HttpServer(("127.0.0.1", 0), Handler)
    judge.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
