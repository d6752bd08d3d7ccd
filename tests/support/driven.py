"""A campaign that a test drives step by step, and an operator's view of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.settings import Settings
from shared.adapters.files import AdapterFile, write_adapter
from shared.digest import sha256_file
from tests.support.operator import Operator
from tests.support.scripted import SHAPES, ScriptedAgent, adapter_bytes, campaign_body, initial_bytes
from tests.support.server import RunningCoordinator, quick_settings

DEADLINE_S = 1000.0
NAMES = ("ada", "bob", "cyd", "dan", "eve")
LATE_COUNTS = {"late_updates": "next_round"}
TWO_OF_ALL = {"minimum": 2, "clients_per_round": 2}
_LONG_S = 1e6

Tensors = dict[str, np.ndarray]


def patient_settings(data_dir: Path, database_url: str | None = None) -> Settings:
    """Settings for a coordinator whose clock jumps over deadlines.

    Leases and the engine's claims outlive the jumps, so tasks in progress stay leased.
    """
    quick = quick_settings(data_dir, database_url, ttl_s=_LONG_S)
    return quick.model_copy(update={"engine": quick.engine.model_copy(update={"claim_ttl_s": _LONG_S})})


def delta_of(name: str, number: int) -> Tensors:
    """An agent's delta of a round; deterministic."""
    rng = np.random.default_rng([number, *name.encode()])
    return {tensor: rng.standard_normal(shape, dtype=np.float32) for tensor, shape in SHAPES.items()}


def miss_the_deadline(coordinator: RunningCoordinator) -> None:
    coordinator.clock.move(DEADLINE_S + 1)


def late_in(number: int) -> dict[str, str]:
    return {"kind": "late", "message": f"it was not done by the deadline of round {number}"}


def too_late_for(number: int) -> dict[str, str]:
    """The failure of a late task that is not done when round *number* takes its last update."""
    return {"kind": "late", "message": f"it was not done when round {number} took its last update"}


class DrivenCampaign:
    """A campaign of three rounds, unless *changes* set another number. folder: for temporary files."""

    def __init__(self, operator: Operator, folder: Path, **changes: Any) -> None:
        self.operator, self.folder = operator, folder
        body = campaign_body(**{"rounds": 3, "deadline": {"round_s": DEADLINE_S}, **changes})
        self.id = str(operator.post("/v1/campaigns", body)["id"])
        self.path = f"/v1/campaigns/{self.id}"

    @classmethod
    def begun(
        cls,
        operator: Operator,
        folder: Path,
        agents: Sequence[ScriptedAgent],
        rows: Mapping[str, int] | None = None,
        **changes: Any,
    ) -> "DrivenCampaign":
        """A campaign whose agents are prepared and whose adapter 0 exists. rows: by agent, 10 by default."""
        campaign = cls(operator, folder, **changes)
        for agent in agents:
            agent.prepare(n_train=(rows or {}).get(agent.name, 10))
        campaign.init(min(agents, key=lambda agent: agent.name))
        return campaign

    def init(self, agent: ScriptedAgent) -> None:
        """Have an agent build adapter 0."""
        agent.init(initial_bytes(self.folder, 0.5))

    def train(
        self,
        agent: ScriptedAgent,
        lease: dict[str, Any] | None = None,
        extras: bytes | None = None,
        *,
        client_state_lost: bool = False,
        **metrics: float,
    ) -> dict[str, Any]:
        """Complete an agent's next train task, or the one of *lease*. Returns the lease."""
        lease = lease or agent.lease("train")
        delta = adapter_bytes(self.folder, **delta_of(agent.name, lease["assignment"]["round"]))
        digest = agent.upload(lease, "delta", delta)
        extras_digest = agent.upload(lease, "extras", extras) if extras is not None else None
        result = agent.train_result(digest, extras_digest, client_state_lost=client_state_lost, **metrics)
        reply = agent.result(lease, result)
        assert reply.status_code == 200, reply.text
        return lease

    def move(self, how: str) -> Any:
        """Pause, resume or cancel."""
        reply = self.operator.campaign(self.id, how)
        assert reply.is_success, reply.text
        return reply.json()

    def roll_back(self, number: int) -> Any:
        return self.operator.post(f"{self.path}/rollback", {"round": number})

    def detail(self) -> Any:
        return self.operator.get(self.path)

    def part(self, name: str) -> Any:
        """An agent's entry among the campaign's participants."""
        [participant] = [each for each in self.detail()["participants"] if each["agent_name"] == name]
        return participant

    def wait_for(self, *states: str) -> Any:
        return self.operator.wait_for(self.id, *states)

    def wait_until_closed(self, number: int) -> None:
        self.operator.wait_until(self.detail, lambda detail: detail["rounds_closed"] >= number)

    def wait_until_open(self, number: int) -> Any:
        """Wait until the round is open. Returns it."""
        rounds = self.operator.wait_until(self.rounds, lambda rounds: len(rounds) >= number)
        return rounds[number - 1]

    def wait_for_reason(self, part: str) -> None:
        """Wait until the campaign's reason contains *part*."""
        self.operator.wait_until(self.detail, lambda detail: part in (detail["reason"] or ""))

    def rounds(self) -> list[Any]:
        return self.operator.items(f"{self.path}/rounds")

    def shares(self, number: int) -> dict[str, tuple[float, int]]:
        """Weight and staleness of each contribution to an adapter, by agent name."""
        contributions = self.operator.get(f"{self.path}/adapters/{number}")["contributions"]
        return {share["agent_name"]: (share["weight"], share["staleness"]) for share in contributions}

    def digest(self, number: int) -> str:
        return str(self.operator.get(f"{self.path}/adapters/{number}")["blob"]["sha256"])

    def tasks(self, agent: str, kind: str = "train") -> list[Any]:
        tasks = self.operator.items(f"{self.path}/tasks")
        return [task for task in tasks if (task["agent_name"], task["kind"]) == (agent, kind)]

    def events(self, *types: str) -> list[Any]:
        """Data of the events of the given types."""
        events = self.operator.items(f"{self.path}/events")
        return [event["data"] for event in events if event["type"] in types]

    def tensors(self, sha256: str, reader: Operator | ScriptedAgent | None = None) -> Tensors:
        """The tensors of a blob that an agent or the operator may read, the operator unless *reader* says so."""
        path = self.folder / f"{sha256}.read"
        path.write_bytes((reader or self.operator).http.get(f"/v1/blobs/{sha256}").content)
        with AdapterFile(path) as file:
            return {name: file.read(name).copy() for name in file.tensors}

    def digest_by_hand(self, number: int, shares: Mapping[str, tuple[float, int]]) -> str:
        """Compute the digest of x + Σ p_k Δ_k from the previous adapter and the agents' deltas.

        shares: weight and staleness in rounds of each agent, in the order of client numbers.
        """
        before, after = self.tensors(self.digest(number - 1)), {}
        for name, x in before.items():
            total = np.zeros(x.shape, dtype=np.float64)
            for agent, (weight, staleness) in shares.items():
                total += weight * delta_of(agent, number - staleness)[name].astype(np.float64)
            after[name] = x + total.astype(np.float32)
        path = self.folder / "by-hand.safetensors"
        write_adapter(path, after)
        return sha256_file(path)
