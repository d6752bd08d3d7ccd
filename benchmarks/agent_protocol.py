"""What an agent sends and receives, step by step, over a raw HTTP/1.1 connection: cheap enough for thousands of them.

The steps are those of ``agent/network/api.py``, in the order of ``agent/running/runner.py``, without an agent's checks,
ledger and training. ``many_agents.py`` runs them.
"""

import asyncio
import json
import struct
import tempfile
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

from shared.adapters.files import write_adapter
from shared.credentials import AGENT_PREFIX, hash_secret, new_secret
from shared.digest import content_digest_header, sha256_hex
from shared.wire.base import LEASE_HEADER, PROTOCOL, PROTOCOL_HEADER
from shared.wire.tasks.results import Fingerprint

RANK, _WIDTH = 4, 31
TENSORS = {
    "base_model.model.layers.0.q.lora_A.weight": (RANK, _WIDTH),
    "base_model.model.layers.0.q.lora_B.weight": (_WIDTH, RANK),
}
"""An adapter of a kilobyte."""
_FINGERPRINT = {part: sha256_hex(part.encode()) for part in Fingerprint.model_fields}
_METRICS = {"steps": 1, "train_loss_mean": 1, "tokens": 1, "seconds": 1, "tokens_per_s": 1, "peak_memory_bytes": 0}
_WAIT_S = 50
_PAUSE_S, _TRIES = 1.0, 60
"""Seconds until a request that the coordinator could not serve is sent again, and how often at most."""


@dataclass(frozen=True)
class Reply:
    """A reply: its status and its body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body's document."""
        return json.loads(self.body)

    def expect(self, *statuses: int) -> "Reply":
        """This reply, if it has one of these statuses. Raises RuntimeError."""
        if self.status not in statuses:
            message = f"status {self.status}: {self.body[:300]!r}"
            raise RuntimeError(message)
        return self


class Http:
    """One connection at a time to a port of this machine, opened again when the coordinator has closed it."""

    def __init__(self, port: int, key: str | None = None) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        fields = [f"Host: 127.0.0.1:{port}", f"{PROTOCOL_HEADER}: {PROTOCOL}", "Accept-Encoding: identity"]
        fields += [f"Authorization: Bearer {key}"] if key is not None else []
        self._fields = "\r\n".join(fields)

    async def ask(self, method: str, path: str, body: Any = None, content: bytes = b"", **headers: str) -> Reply:
        """Send a request and return its reply. body: sent as JSON; otherwise *content* is sent."""
        if body is not None:
            content, headers = json.dumps(body).encode(), {**headers, "Content-Type": "application/json"}
        if content or method in ("POST", "PUT"):
            headers = {**headers, "Content-Length": str(len(content))}
        fields = (f"{name.replace('_', '-')}: {value}" for name, value in headers.items())
        request = "\r\n".join([f"{method} {path} HTTP/1.1", self._fields, *fields, "", ""]).encode() + content
        for _ in range(_TRIES):
            try:
                reply = await self._exchange(request)
            except (ConnectionError, asyncio.IncompleteReadError):  # closed between two requests
                self.close()
            else:
                if reply.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    return reply
                await asyncio.sleep(_PAUSE_S)
        message = f"{method} {path} was not answered"
        raise ConnectionError(message)

    async def _exchange(self, request: bytes) -> Reply:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, announced, rest = head.partition(b"\r\ncontent-length: ")
        body = await reader.readexactly(int(rest.partition(b"\r\n")[0])) if announced else b""
        if b"\r\nconnection: close" in head:
            self.close()
        return Reply(int(head.split(None, 2)[1]), body)

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


@dataclass
class Agent:
    """An enrolled agent. statements: how many it has of each campaign."""

    http: Http
    name: str
    number: int
    instance_id: str = ""
    adapters: set[str] = field(default_factory=set)
    statements: dict[str, int] = field(default_factory=dict)

    async def lease(self) -> dict[str, Any] | None:
        """Wait for a task. None if none came."""
        newest = {campaign_id: count - 1 for campaign_id, count in self.statements.items()}
        body = {"instance_id": self.instance_id, "version": "bench", "statements": newest}
        reply = await self.http.ask("POST", "/v1/leases", body, Prefer=f"wait={_WAIT_S}")
        return reply.json() if reply.expect(201, 204).status == 201 else None

    async def do(self, lease: dict[str, Any]) -> None:
        """Do a task without any work."""
        assignment = lease["assignment"]
        await self._follow(assignment["campaign_id"], lease["statements"])
        match assignment["kind"]:
            case "prepare":
                counts = {"n_train": 10, "n_held_out": 0, "report": "live", "evaluates": True}
                result = {"kind": "prepare", "fingerprint": _FINGERPRINT, "rank": RANK, **counts}
            case "init":
                result = {"kind": "init", "adapter": await self._upload(lease, "adapter", _FILES.initial)}
            case "train":
                await self._fetch(assignment["adapter"]["sha256"])
                digest = await self._upload(lease, "delta", _FILES.delta(self.number, assignment["round"]))
                result = {"kind": "train", "delta": digest, "metrics": _METRICS, "trained_on": "nothing"}
            case kind:
                raise NotImplementedError(kind)
        (await self.http.ask("PUT", f"{_path(lease)}/result", result, **_header(lease))).expect(200)

    async def _follow(self, campaign_id: str, sent: dict[str, Any] | None) -> None:
        """Take in what was signed of a campaign, and fetch what the lease did not bring. sent: what it brought."""
        known = self.statements.get(campaign_id, 0)
        if sent is not None:
            known += len(sent["statements"]) - 1
        has_more = sent is None
        while has_more:
            path = f"/v1/agents/me/campaigns/{campaign_id}/statements?since={max(0, known - 1)}"
            page = (await self.http.ask("GET", path)).expect(200).json()
            known = max(0, known - 1) + len(page["statements"])
            has_more = page["has_more"]
        self.statements[campaign_id] = known

    async def _fetch(self, sha256: str) -> None:
        if sha256 not in self.adapters:
            (await self.http.ask("GET", f"/v1/blobs/{sha256}")).expect(200)
            self.adapters = {sha256}

    async def _upload(self, lease: dict[str, Any], purpose: str, data: bytes) -> str:
        digest = sha256_hex(data)
        path = f"{_path(lease)}/uploads?purpose={purpose}&sha256={digest}&n_bytes={len(data)}"
        headers = {"Content_Digest": content_digest_header(data), **_header(lease)}
        (await self.http.ask("POST", path, content=data, **headers)).expect(201)
        return digest


async def enroll(operator: Http, stranger: Http, port: int, number: int, **labels: str) -> Agent:
    """Enrol an agent through the API. operator: has an operator's key. stranger: has none."""
    token = (await operator.ask("POST", "/v1/tokens", {"labels": labels})).expect(201).json()["token"]
    name, secret = f"agent-{number:05}", new_secret(AGENT_PREFIX)
    request = {"token": token, "name": name, "version": "bench", "secret_hash": hash_secret(secret)}
    (await stranger.ask("POST", "/v1/enrollments", request)).expect(201)
    return Agent(Http(port, secret), name, number, instance_id=sha256_hex(name.encode())[:32])


def _path(lease: dict[str, Any]) -> str:
    return f"/v1/leases/{lease['task_id']}"


def _header(lease: dict[str, Any]) -> dict[str, str]:
    return {LEASE_HEADER: f"{lease['attempt']}.{lease['token']}"}


class _Files:
    """Adapter 0, and updates that differ in one number."""

    def __init__(self) -> None:
        self.initial = _written(lora_A=0.01, lora_B=0.0)
        self._delta = _written(lora_A=0.001, lora_B=0.001)

    def delta(self, number: int, round_number: int) -> bytes:
        """The update of an agent in a round."""
        return self._delta[:-4] + struct.pack("<f", (number + 1) * 1e-7 + round_number * 1e-3)


def _written(**fill: float) -> bytes:
    tensors = {
        name: np.full(shape, next(value for part, value in fill.items() if part in name), dtype=np.float32)
        for name, shape in TENSORS.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        write_adapter(path, tensors)
        return path.read_bytes()


_FILES = _Files()
