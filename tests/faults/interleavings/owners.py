"""Data owners as the coordinator sees them. Trained values are drawn at random; SCAFFOLD's client state is stored."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from shared.adapters.files import write_adapter
from shared.campaign.sections import FROM_COORDINATOR
from shared.campaign.spec import CampaignSpec
from shared.digest import sha256_hex
from tests.support.messages import evaluated
from tests.support.scripted import SHAPES, ScriptedAgent, prepared

Vector = NDArray[np.float64]
"""All tensors of an adapter, concatenated. Shape (SIZE,)."""

SIZE = sum(int(np.prod(shape)) for shape in SHAPES.values())
STATE_SLOTS = {"scaffold": "delta_c"}
"""Algorithms with client state, and the slot that carries its change."""


def file_of(folder: Path, values: Vector, slot: str = "") -> bytes:
    """The bytes of an adapter file that holds a vector. *slot* is prefixed to the tensors' names."""
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
    """The vector that a file holds, read by another library than the coordinator's."""
    tensors = load(data)
    return np.concatenate([tensors[slot + name].reshape(-1) for name in SHAPES]).astype(np.float64)


@dataclass(frozen=True)
class Lease:
    """A lease that an owner was granted."""

    owner: "Owner"
    body: dict[str, Any]

    @property
    def task_id(self) -> str:
        return str(self.body["task_id"])

    @property
    def attempt(self) -> int:
        return int(self.body["attempt"])

    @property
    def job(self) -> dict[str, Any]:
        return dict(self.body["assignment"])

    @property
    def kind(self) -> str:
        return str(self.job["kind"])

    @property
    def campaign_id(self) -> str:
        return str(self.job["campaign_id"])

    @property
    def piece(self) -> Hashable:
        """The piece of work, which further tasks may ask for again: a round's training, or else the task."""
        if self.kind == "train":
            return self.campaign_id, self.job["round"], self.job["history"]
        return self.task_id


@dataclass(frozen=True)
class Work:
    """An owner's result of a task. files: by purpose. change: the delta. client_state: c_k after this training."""

    body: dict[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    change: Vector | None = None
    client_state: Vector | None = None


class Owner:
    """An agent and its local state.

    rows: number of training rows. client_states: c_k by campaign and delta digest, pruned as the agent's own code does.
    specs: what a campaign's preparation asked to accept, by campaign. Trainings stand on it alone. digests: theirs.
    """

    def __init__(self, agent: ScriptedAgent, rows: int, held_out: int, folder: Path) -> None:
        self.agent = agent
        self.rows, self.held_out = rows, held_out
        self.is_revoked = False
        self.client_states: dict[str, dict[str, Vector]] = {}
        self.specs: dict[str, CampaignSpec] = {}
        self.digests: dict[str, str] = {}
        self._folder = folder
        self._made: dict[tuple[Hashable, int], Work] = {}

    @property
    def name(self) -> str:
        return self.agent.name

    @property
    def id(self) -> str:
        return str(self.agent.identity["agent_id"])

    def ask(self, process: int = 0) -> httpx.Response:
        return self.agent.ask(0, instance_id=f"process-{process}-of-{self.name}")

    def work_of(self, lease: Lease, variant: int, draw: "Draw") -> Work:
        """This owner's result of a task, computed once per variant; a round is trained once, whatever its task.

        Another variant is that of an agent that does not keep to this: it trained again.
        """
        key = lease.piece, variant
        if key not in self._made:
            self._made[key] = self._make(lease, variant, draw)
        return self._made[key]

    def _make(self, lease: Lease, variant: int, draw: "Draw") -> Work:
        job = lease.job
        if lease.kind == "prepare":
            self.specs[lease.campaign_id] = CampaignSpec.model_validate(job["spec"], context=FROM_COORDINATOR)
            return Work(prepared(self.rows, self.held_out))
        if lease.kind == "init":
            values = draw.start()
            data = file_of(self._folder, values)
            return Work({"kind": "init", "adapter": sha256_hex(data)}, {"adapter": data}, values)
        if lease.kind == "evaluate":
            loss = 1.0 + (job["round"] * 7 + self.rows * 3 + variant) % 5
            return Work(evaluated(loss, n_rows=self.held_out, n_tokens=10 * self.held_out))
        return self._train(job, variant, draw)

    def _train(self, job: dict[str, Any], variant: int, draw: "Draw") -> Work:
        slot = STATE_SLOTS.get(self.specs[job["campaign_id"]].algorithm.name)
        if slot is None:
            change = draw.common(job["client_number"] + job["round"] + variant)
            delta = file_of(self._folder, change)
            return Work(self.agent.train_result(sha256_hex(delta)), {"delta": delta}, change)
        states = self.client_states.get(job["campaign_id"], {})
        is_lost = job["committed_update"] is not None and job["committed_update"] not in states
        before = states.get(job["committed_update"], np.zeros(SIZE))
        change, moved = draw.new(), draw.new()
        delta, extras = file_of(self._folder, change), file_of(self._folder, moved, f"{slot}/")
        body = self.agent.train_result(sha256_hex(delta), sha256_hex(extras), client_state_lost=is_lost)
        return Work(body, {"delta": delta, "extras": extras}, change, before + moved)

    def store_client_state(self, lease: Lease, work: Work) -> None:
        """Store a result's client state before it is sent. Those of the committed update and the newest others stay."""
        if work.client_state is None:
            return
        states = self.client_states.setdefault(lease.campaign_id, {})
        delta = work.body["delta"]
        states.pop(delta, None)
        states[delta] = work.client_state
        others = [each for each in states if each not in (delta, lease.job["committed_update"])]
        spec = self.specs[lease.campaign_id]
        versions = min(spec.retention.server_state, spec.rounds) + 1
        for old in others[: len(others) - max(0, versions - 2)]:
            del states[old]

    def spoil(self, lease: Lease, purpose: str) -> bytes:
        """A file of the right shape that holds a NaN; no two are equal."""
        values = np.full(SIZE, float(lease.attempt))
        values[3] = np.nan
        algorithm = self.specs[lease.campaign_id].algorithm.name
        return file_of(self._folder, values, f"{STATE_SLOTS[algorithm]}/" if purpose == "extras" else "")


class Draw:
    """Draws trained values. Algorithms without client state use few deltas, shared by clients, rounds and campaigns,
    because equal bytes are stored once."""

    def __init__(self, example: int) -> None:
        self._example = example
        self._random = np.random.default_rng(example)

    def start(self) -> Vector:
        value = float(self._example % 1000)
        # before training, B is zero
        factors = [np.full(int(np.prod(shape)), value * ("lora_A" in name)) for name, shape in SHAPES.items()]
        return np.concatenate(factors)

    def common(self, number: int) -> Vector:
        values = np.arange(SIZE) / 8 - 1 + self._example % 1000 / 64
        return values * (1 + number % 3)

    def new(self) -> Vector:
        # exact in float32
        return self._random.integers(-(2**12), 2**12, SIZE) / 2**10
