"""Data owners, as a coordinator sees them: what they train is drawn, what SCAFFOLD has them keep is kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from shared.adapters import write_adapter
from shared.digest import sha256_hex
from tests.support.scripted import FINGERPRINT, SHAPES, ScriptedAgent

Vector = NDArray[np.float64]
"""All tensors of an adapter, one after the other."""

SIZE = sum(int(np.prod(shape)) for shape in SHAPES.values())
KEPT = {"scaffold": "delta_c"}
"""Algorithms that have clients keep something, and the slot in which its change travels."""


def file_of(folder: Path, values: Vector, slot: str = "") -> bytes:
    """The adapter file that holds a vector; with *slot* in front of the tensors' names."""
    tensors, at = {}, 0
    for name, shape in SHAPES.items():
        size = int(np.prod(shape))
        tensors[slot + name] = values[at : at + size].astype(np.float32).reshape(shape)
        at += size
    path = folder / f"{uuid4().hex}.safetensors"
    write_adapter(path, tensors)
    data = path.read_bytes()
    path.unlink()
    return data


def vector_of(data: bytes, slot: str = "") -> Vector:
    """What a file holds, by another reader than the coordinator's."""
    tensors = load(data)
    return np.concatenate([tensors[slot + name].reshape(-1) for name in SHAPES]).astype(np.float64)


@dataclass(frozen=True)
class Lease:
    """A lease that an owner was granted."""

    owner: "Owner"
    said: dict[str, Any]

    @property
    def task_id(self) -> str:
        return str(self.said["task_id"])

    @property
    def attempt(self) -> int:
        return int(self.said["attempt"])

    @property
    def job(self) -> dict[str, Any]:
        return dict(self.said["job"])

    @property
    def kind(self) -> str:
        return str(self.job["kind"])

    @property
    def campaign_id(self) -> str:
        return str(self.job["campaign_id"])


@dataclass(frozen=True)
class Work:
    """What an owner made of a task. files: by purpose. change: the delta. kept: c_k as it is after this training."""

    body: dict[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    change: Vector | None = None
    kept: Vector | None = None


class Owner:
    """An agent and what it has at home.

    rows: its training rows. kept: by campaign and delta, what it still has; counted on as the agent's own code does.
    """

    def __init__(self, agent: ScriptedAgent, rows: int, held_out: int, folder: Path) -> None:
        self.agent = agent
        self.rows, self.held_out = rows, held_out
        self.is_revoked = False
        self.kept: dict[str, dict[str, Vector]] = {}
        self._folder = folder
        self._made: dict[tuple[str, int], Work] = {}

    @property
    def name(self) -> str:
        return self.agent.name

    @property
    def id(self) -> str:
        return str(self.agent.identity["agent_id"])

    def ask(self, process: int = 0) -> httpx.Response:
        return self.agent.ask(0, instance_id=f"process-{process}-of-{self.name}")

    def work_of(self, lease: Lease, variant: int, draw: "Draw") -> Work:
        """What this owner makes of a task, and makes of it only once; another variant where it trained anew."""
        key = lease.task_id, variant
        if key not in self._made:
            self._made[key] = self._make(lease, variant, draw)
        return self._made[key]

    def _make(self, lease: Lease, variant: int, draw: "Draw") -> Work:
        job = lease.job
        if lease.kind == "prepare":
            return Work(
                {"kind": "prepare", "fingerprint": FINGERPRINT, "n_train": self.rows, "n_held_out": self.held_out}
            )
        if lease.kind == "init":
            values = draw.start()
            data = file_of(self._folder, values)
            return Work({"kind": "init", "adapter": sha256_hex(data)}, {"adapter": data}, values)
        if lease.kind == "evaluate":
            loss = 1.0 + (job["round"] * 7 + self.rows * 3 + variant) % 5
            return Work({"kind": "evaluate", "loss": loss, "n_rows": self.held_out, "n_tokens": 10 * self.held_out})
        return self._train(job, variant, draw)

    def _train(self, job: dict[str, Any], variant: int, draw: "Draw") -> Work:
        slot = KEPT.get(job["algorithm"])
        if slot is None:
            change = draw.common(job["client_number"] + job["round"] + variant)
            delta = file_of(self._folder, change)
            return Work(self.agent.train_result(sha256_hex(delta)), {"delta": delta}, change)
        kept = self.kept.get(job["campaign_id"], {})
        is_lost = job["committed_update"] is not None and job["committed_update"] not in kept
        before = kept.get(job["committed_update"], np.zeros(SIZE))
        change, moved = draw.new(), draw.new()
        delta, extras = file_of(self._folder, change), file_of(self._folder, moved, f"{slot}/")
        body = self.agent.train_result(sha256_hex(delta), sha256_hex(extras), client_state_lost=is_lost)
        return Work(body, {"delta": delta, "extras": extras}, change, before + moved)

    def keep(self, lease: Lease, work: Work) -> None:
        """Before a result leaves: keep what belongs to it, to what counted, and to the newest of the others."""
        if work.kept is None:
            return
        kept = self.kept.setdefault(lease.campaign_id, {})
        delta = work.body["delta"]
        kept.pop(delta, None)
        kept[delta] = work.kept
        others = [each for each in kept if each not in (delta, lease.job["committed_update"])]
        for old in others[: len(others) - max(0, lease.job["state_versions"] - 2)]:
            del kept[old]

    def spoil(self, lease: Lease, purpose: str) -> bytes:
        """A file of the right shape that holds a NaN; no two are equal."""
        values = np.full(SIZE, float(lease.attempt))
        values[3] = np.nan
        return file_of(self._folder, values, f"{KEPT[lease.job['algorithm']]}/" if purpose == "extras" else "")


class Draw:
    """Draws what is trained. Without algorithms that keep something there are few deltas, which several clients, rounds
    and campaigns have in common: equal bytes are stored once."""

    def __init__(self, example: int) -> None:
        self._example = example
        self._random = np.random.default_rng(example)

    def start(self) -> Vector:
        return np.full(SIZE, float(self._example % 1000))

    def common(self, number: int) -> Vector:
        values = np.arange(SIZE) / 8 - 1 + self._example % 1000 / 64
        return values * (1 + number % 3)

    def new(self) -> Vector:
        # float32 holds it
        return self._random.integers(-(2**12), 2**12, SIZE) / 2**10
