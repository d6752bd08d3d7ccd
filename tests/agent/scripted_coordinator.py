"""A coordinator whose tasks a test hands out one by one: also those that no honest one gives."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from agent.workspace import Identity
from shared.digest import sha256_hex
from shared.signing.keys import SigningKey
from shared.wire.statements import MAX_STATEMENTS, KeySuccession, SignedStatements, SigningKeys
from shared.wire.tasks.assignments import Assignment
from tests.agent.parts import OURS, Home, a_lease
from tests.support.http_server import HttpServer
from tests.support.processes import wait_until
from tests.support.scripted import adapter_bytes
from tests.support.signed import SignedChain

Scripted = TypeVar("Scripted", bound="ScriptedCoordinator")


@dataclass
class Ended:
    """What an agent sent for one task: its result or failure, and its files by their purpose."""

    result: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    is_over: bool = False


class ScriptedCoordinator:
    """Serves the agent's protocol, as far as one agent needs it, and believes everything."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.adapter = adapter_bytes(folder)
        self.progress: list[dict[str, Any]] = []
        self._blobs = {sha256_hex(self.adapter): self.adapter}
        self._tasks: dict[str, tuple[Assignment, Ended]] = {}
        self._uploads: dict[str, tuple[str, str]] = {}
        self.key = SigningKey.generate()
        self.successions: list[KeySuccession] = []
        self.chains: dict[str, SignedChain] = {}
        self.changed: dict[int, dict[str, str]] = {}
        self.page = MAX_STATEMENTS

    @property
    def adapter_ref(self) -> dict[str, Any]:
        """An adapter to start from."""
        return self.serve(self.adapter)

    def serve(self, blob: bytes) -> dict[str, Any]:
        """Offer a file. Returns how assignments name it."""
        self._blobs[sha256_hex(blob)] = blob
        return {"sha256": sha256_hex(blob), "n_bytes": len(blob)}

    def blob(self, ref: dict[str, Any]) -> bytes:
        """A file that is offered."""
        return self._blobs[ref["sha256"]]

    def hand_out(self, task: Assignment) -> Ended:
        """Offer a task. Returns what comes, as it comes."""
        ended = Ended()
        self.chain_of(task.campaign_id).say_what_it_takes(task)
        self._tasks[f"task{len(self._tasks) + 1}"] = (task, ended)
        return ended

    def chain_of(self, campaign_id: str) -> SignedChain:
        """What is signed of a campaign: by itself all that its tasks name, unless that contradicts what was before."""
        return self.chains.setdefault(campaign_id, SignedChain(self.key, campaign_id))

    def do(self, task: Assignment) -> Ended:
        """Offer a task and wait for its end."""
        ended = self.hand_out(task)
        wait_until(lambda: ended.is_over, f"the end of {task.kind}", 30)
        return ended

    def enroll(self, folder: Path) -> Home:
        """A home that is enrolled here, with ten rows."""
        home = Home(folder)
        home.workspace.create()
        home.workspace.record.create()
        home.workspace.write_identity(
            Identity(coordinator=self.url, agent_id="a", name="ada", secret="s", signing_key=self.key.public)
        )
        home.write_settings()
        (folder / "notes.jsonl").write_text("{}\n" * 10)
        return home

    def answer(self, method: str, path: str, body: bytes, offset: str) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers of the reply to a request."""
        path, _, query = path.partition("?")
        match method, path.strip("/").split("/")[1:]:
            case "GET", ["agents", "me", "campaigns"]:
                return 200, {"campaigns": []}, {}
            case "GET", ["agents", "me", "campaigns", campaign_id, "statements"]:
                return 200, self._statements(campaign_id, int(query.partition("=")[2])).model_dump(), {}
            case "GET", ["signing-keys"]:
                return 200, SigningKeys(current=self.key.public, successions=self.successions).model_dump(), {}
            case "GET", ["blobs", sha256]:
                return 200, self._blobs[sha256], {}
            case "POST", ["leases"]:
                return self._lease()
            case "PATCH", ["leases", _]:
                self.progress.append(json.loads(body)["progress"] or {})
                return 200, {"expires_at": "2030-01-01T00:00:00Z", "directive": "continue"}, {}
            case "POST", ["leases", task_id, "uploads"]:
                upload_id, file = f"u{len(self._uploads)}", dict(parse_qsl(query))
                self._uploads[upload_id] = (task_id, file["purpose"])
                self._tasks[task_id][1].files[file["purpose"]] = body
                return 201, {"id": upload_id, "offset": len(body), "n_bytes": int(file["n_bytes"])}, {}
            case "PATCH", ["uploads", upload_id]:
                task_id, purpose = self._uploads[upload_id]
                files = self._tasks[task_id][1].files
                files[purpose] = files.get(purpose, b"")[: int(offset)] + body
                return 204, b"", {"Upload-Offset": str(len(files[purpose]))}
            case "PUT", ["leases", task_id, ("result" | "failure") as what]:
                ended = self._tasks[task_id][1]
                setattr(ended, what, json.loads(body))
                ended.is_over = True
                return 200, {"campaigns": []}, {}
        return 204, b"", {}

    def _statements(self, campaign_id: str, since: int) -> SignedStatements:
        """The statements from a number on; fields of some, by their numbers, are changed."""
        found = [
            each.model_copy(update=self.changed.get(since + place, {}))
            for place, each in enumerate(self.chain_of(campaign_id).signed(since))
        ]
        return SignedStatements(statements=found[: self.page], has_more=len(found) > self.page)

    def _lease(self) -> tuple[int, Any, dict[str, str]]:
        for task_id, (task, ended) in self._tasks.items():
            if not ended.is_over:
                return 201, a_lease(task_id=task_id, renew_every_s=0.1, task=task).model_dump_json().encode(), {}
        return 204, b"", {}


@contextmanager
def scripted_coordinator(folder: Path, kind: type[Scripted] = ScriptedCoordinator) -> Iterator[Scripted]:  # type: ignore[assignment]
    """Serve while the block runs. kind: the class of the coordinator."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            offset = self.headers.get("Upload-Offset", "0")
            status, content, headers = coordinator.answer(self.command, self.path, body, offset)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**OURS, **headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _handle  # noqa: N815 - as the base class names them

        def log_message(self, *_: object) -> None:
            return

    server = HttpServer(("127.0.0.1", 0), Handler)
    coordinator = kind(f"http://127.0.0.1:{server.server_port}", folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield coordinator
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
