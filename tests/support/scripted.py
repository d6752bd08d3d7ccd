"""An agent whose calls a test makes one by one, in plain HTTP."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np

from shared.adapters.files import write_adapter
from shared.credentials import AGENT_PREFIX, hash_secret, new_secret
from shared.digest import content_digest_header, sha256_hex
from tests.support.messages import benchmarked, evaluated, training_metrics
from tests.support.operator import Operator

SHAPES = {
    "base_model.model.q_proj.lora_A.weight": (2, 3),
    "base_model.model.q_proj.lora_B.weight": (4, 2),
}
FINGERPRINT = {part: sha256_hex(part.encode()) for part in ("weights", "config", "tokenizer", "template")}


def campaign_body(**changes: Any) -> dict[str, Any]:
    """Request body of a small campaign for two scripted agents."""
    return {
        "name": "small",
        "base": {"model": "tiny"},
        "lora": {"rank": 2},
        "training": {"steps": 1, "batch_size": 2},
        "data": {"name": "notes"},
        "rounds": 1,
        "evaluation": {"every": 0},
        **changes,
        "selection": {"minimum": 2, **changes.get("selection", {})},
    }


def adapter_bytes(folder: Path, fill: float = 0.0, **changes: Any) -> bytes:
    """An adapter file with the campaign's tensors, filled with one value except for *changes* by name."""
    tensors = {name: np.full(shape, fill, dtype=np.float32) for name, shape in SHAPES.items()}
    path = folder / f"{uuid4().hex}.safetensors"
    write_adapter(path, {**tensors, **changes})
    return path.read_bytes()


def initial_bytes(folder: Path, fill: float) -> bytes:
    """An adapter 0: its A is filled with one value, its B is zero."""
    factors = {name: np.zeros(shape, dtype=np.float32) for name, shape in SHAPES.items() if "lora_B" in name}
    return adapter_bytes(folder, fill, **factors)


def slots_bytes(folder: Path, fill: float, *slots: str) -> bytes:
    """A file with the campaign's tensors for each slot, filled with one value."""
    tensors = {
        f"{slot}/{name}": np.full(shape, fill, dtype=np.float32) for slot in slots for name, shape in SHAPES.items()
    }
    path = folder / f"{uuid4().hex}.safetensors"
    write_adapter(path, tensors)
    return path.read_bytes()


def safetensors_bytes(tensors: dict[str, tuple[str, tuple[int, ...], bytes]], tail: bytes = b"") -> bytes:
    """A safetensors file, valid or not. tensors: name to (dtype, shape, data). tail: bytes after the last tensor."""
    header, body = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    return with_header(header, body + tail)


def with_header(header: object, body: bytes, claimed_bytes: int | None = None) -> bytes:
    """A safetensors file with any header. claimed_bytes: length it claims for the header; None is the true one."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text) if claimed_bytes is None else claimed_bytes) + text + body


def stretched(data: bytes, n_bytes: int) -> bytes:
    """A safetensors file in another size: with blanks in its header; one without a header, with zeros at its end."""
    n_missing = n_bytes - len(data)
    (header_bytes,) = struct.unpack("<Q", data[:8]) if len(data) >= 8 else (0,)
    end = 8 + header_bytes
    if end > len(data) or not data[8:end].endswith(b"}"):
        return data + bytes(n_missing)
    return struct.pack("<Q", header_bytes + n_missing) + data[8:end] + b" " * n_missing + data[end:]


def begin_campaign(operator: Operator, folder: Path, agents: Sequence["ScriptedAgent"], **changes: Any) -> str:
    """Begin a campaign: prepare all agents; the first by name uploads adapter 0, all zeros. Returns its id."""
    campaign_id: str = operator.post("/v1/campaigns", campaign_body(**changes))["id"]
    for agent in agents:
        agent.prepare()
    min(agents, key=lambda agent: agent.name).init(adapter_bytes(folder))
    return campaign_id


def prepared(
    n_train: int = 10,
    n_held_out: int = 0,
    fingerprint: dict[str, str] = FINGERPRINT,
    rank: int = 2,
    *,
    report: str = "live",
    evaluates: bool = True,
    cpu_dtype: str | None = None,
) -> dict[str, Any]:
    """The result of a prepare task; the rank is by default that of ``campaign_body``."""
    counts = {"n_train": n_train, "n_held_out": n_held_out, "report": report, "evaluates": evaluates}
    return {"kind": "prepare", "fingerprint": fingerprint, "rank": rank, "cpu_dtype": cpu_dtype, **counts}


TRAINED_ON = "A processor, 2 threads; torch 2.13.0"


class ScriptedAgent:
    """Enrols when created. The test makes each later call."""

    def __init__(self, url: str, token: str, name: str) -> None:
        self.name = name
        self.instance_id = uuid4().hex
        # plain HTTP: loading the TLS authorities takes 50 ms of CPU per client
        self.http = httpx.Client(base_url=url, timeout=30, verify=False)
        secret = new_secret(AGENT_PREFIX)
        body = {"token": token, "name": name, "version": "test", "secret_hash": hash_secret(secret)}
        reply = self.http.post("/v1/enrollments", json=body)
        assert reply.status_code == 201, reply.text
        self.identity = {**reply.json(), "secret": secret}
        self.http.headers["Authorization"] = f"Bearer {secret}"

    def rotate_secret(self) -> str:
        """Rotate the secret. Returns the new one."""
        secret = new_secret(AGENT_PREFIX)
        reply = self.http.post("/v1/agents/me/secret", json={"secret_hash": hash_secret(secret)})
        assert reply.status_code == 200, reply.text
        return secret

    def ask(
        self, wait_s: float = 10, instance_id: str | None = None, statements: Mapping[str, int] | None = None
    ) -> httpx.Response:
        body = {"instance_id": instance_id or self.instance_id, "version": "test", "statements": statements or {}}
        return self.http.post("/v1/leases", json=body, headers={"Prefer": f"wait={wait_s}"})

    def lease(self, kind: str, wait_s: float = 10) -> dict[str, Any]:
        reply = self.ask(wait_s)
        assert reply.status_code == 201, f"{self.name} waited for {kind}: {reply.status_code} {reply.text}"
        lease: dict[str, Any] = reply.json()
        assert lease["assignment"]["kind"] == kind
        return lease

    @staticmethod
    def header(lease: dict[str, Any]) -> dict[str, str]:
        return {"Fedloom-Lease": f"{lease['attempt']}.{lease['token']}"}

    def renew(self, lease: dict[str, Any], **progress: Any) -> httpx.Response:
        body = {"progress": progress or None}
        return self.http.patch(f"/v1/leases/{lease['task_id']}", json=body, headers=self.header(lease))

    def result(self, lease: dict[str, Any], body: dict[str, Any]) -> httpx.Response:
        return self.http.put(f"/v1/leases/{lease['task_id']}/result", json=body, headers=self.header(lease))

    def failure(self, lease: dict[str, Any], **body: Any) -> httpx.Response:
        return self.http.put(f"/v1/leases/{lease['task_id']}/failure", json=body, headers=self.header(lease))

    def release(self, lease: dict[str, Any]) -> httpx.Response:
        return self.http.delete(f"/v1/leases/{lease['task_id']}", headers=self.header(lease))

    def hold(self, lease: dict[str, Any]) -> httpx.Response:
        """Keep the update of a train task back."""
        return self.http.put(f"/v1/leases/{lease['task_id']}/hold", headers=self.header(lease))

    def let_go(self, task_id: str) -> httpx.Response:
        """Let the update of a held task go."""
        return self.http.put(f"/v1/agents/me/tasks/{task_id}/release")

    def start_upload(
        self,
        lease: dict[str, Any],
        purpose: str,
        data: bytes,
        n_bytes: int | None = None,
        *,
        first: bytes = b"",
        **headers: str,
    ) -> httpx.Response:
        """Begin the upload of *data*, or of a file that is said to have *n_bytes*. first: its first chunk."""
        facts = {"purpose": purpose, "sha256": sha256_hex(data), "n_bytes": len(data) if n_bytes is None else n_bytes}
        sent = {**self.header(lease), **({"Content-Digest": content_digest_header(first)} if first else {}), **headers}
        return self.http.post(f"/v1/leases/{lease['task_id']}/uploads", params=facts, content=first, headers=sent)

    def send_chunk(
        self, lease: dict[str, Any], upload_id: str, offset: int, chunk: bytes, **headers: str
    ) -> httpx.Response:
        sent = {
            **self.header(lease),
            "Upload-Offset": str(offset),
            "Content-Digest": content_digest_header(chunk),
            **headers,
        }
        return self.http.patch(f"/v1/uploads/{upload_id}", content=chunk, headers=sent)

    def upload(self, lease: dict[str, Any], purpose: str, data: bytes) -> str:
        """Upload a file in one request, or in a second one what it has beyond an earlier attempt's bytes."""
        started = self.start_upload(lease, purpose, data, first=data)
        assert started.status_code == 201, started.text
        upload = started.json()
        if upload["offset"] < len(data):
            sent = self.send_chunk(lease, upload["id"], upload["offset"], data[upload["offset"] :])
            assert sent.status_code == 204, sent.text
        return sha256_hex(data)

    def prepare(
        self,
        n_train: int = 10,
        n_held_out: int = 0,
        fingerprint: dict[str, str] = FINGERPRINT,
        rank: int | None = None,
        *,
        report: str = "live",
        evaluates: bool = True,
        cpu_dtype: str | None = None,
        offers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer the prepare task.

        rank: what the agent trains; None means the campaign's. offers: benchmarks that it offers before, as ``offer``.
        """
        lease = self.lease("prepare")
        if offers is not None:
            offered = self.offer(lease["assignment"]["campaign_id"], **offers)
            assert offered.status_code == 204, offered.text
        rank = rank or lease["assignment"]["spec"]["lora"]["rank"]
        told = {"report": report, "evaluates": evaluates, "cpu_dtype": cpu_dtype}
        body = prepared(n_train, n_held_out, fingerprint, rank, **told)
        reply = self.result(lease, body)
        assert reply.status_code == 200, reply.text

    def init(self, data: bytes) -> None:
        lease = self.lease("init")
        reply = self.result(lease, {"kind": "init", "adapter": self.upload(lease, "adapter", data)})
        assert reply.status_code == 200, reply.text

    def train(
        self,
        delta: bytes,
        lease: dict[str, Any] | None = None,
        extras: bytes | None = None,
        *,
        client_state_lost: bool = False,
        **metrics: Any,
    ) -> dict[str, Any]:
        """Complete a train task, the next one unless *lease* is given. Returns the lease."""
        lease = lease or self.lease("train")
        digest = self.upload(lease, "delta", delta)
        beside = self.upload(lease, "extras", extras) if extras is not None else None
        reply = self.result(lease, self.train_result(digest, beside, client_state_lost=client_state_lost, **metrics))
        assert reply.status_code == 200, reply.text
        return lease

    def evaluate(self, loss: float, n_tokens: int = 100, **changes: Any) -> None:
        reply = self.result(self.lease("evaluate"), evaluated(loss, n_tokens=n_tokens, **changes))
        assert reply.status_code == 200, reply.text

    def offer(self, campaign_id: str, **items: str) -> httpx.Response:
        """Offer benchmarks. items: a word for the items of each, by the benchmark's name."""
        offered = [
            {"name": name, "n_items": 100, "n_published": 500, "items_sha256": sha256_hex(word.encode())}
            for name, word in items.items()
        ]
        return self.http.put(f"/v1/agents/me/campaigns/{campaign_id}/benchmarks", json={"benchmarks": offered})

    def benchmark(self, values: Mapping[str, float | str], items: str = "public") -> dict[str, Any]:
        """Complete a benchmark task. Returns the lease.

        values: of each benchmark by its name, which all of its metrics get; a text is why there is none.
        """
        lease = self.lease("benchmark")
        reply = self.result(lease, benchmarked(lease["assignment"]["benchmarks"], values, items))
        assert reply.status_code == 200, reply.text
        return lease

    @staticmethod
    def train_result(
        delta: str, extras: str | None = None, *, client_state_lost: bool = False, **metrics: Any
    ) -> dict[str, Any]:
        files = {"delta": delta, "extras": extras, "client_state_lost": client_state_lost, "trained_on": TRAINED_ON}
        return {"kind": "train", **files, "metrics": training_metrics(**metrics)}
