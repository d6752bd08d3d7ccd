"""A third-party algorithm with server state, a broadcast and extras, end to end over HTTP."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from shared.adapters.files import AdapterFile
from tests.support.distributions import pip_install, write_distribution
from tests.support.entry_points import write_out
from tests.support.processes import QuickAgent, QuickCoordinator, ended
from tests.support.scripted import campaign_body

MODULE = '''
"""Drift: the server averages the clients' steps over rounds; a client reports its step plus the broadcast mean."""

from typing import Annotated

from pydantic import Field

from shared.algorithms import AlgorithmParams, ClientHalf, ServerHalf


class Params(AlgorithmParams):
    beta: Annotated[float, Field(ge=0)] = 0.5


class Server(ServerHalf[Params]):
    state = ("m", "rounds")
    broadcast = ("m",)

    def initial_state(self, slot, shape):
        return super().initial_state(slot, shape) + (1 if slot == "rounds" else 0)

    def aggregate(self, x, updates, state, *, first):
        state["m"] = self.params.beta * state["m"] + updates.sum_in_campaign("step")
        state["rounds"] = state["rounds"] + 1
        return x + updates.mean_delta() + (0 if first else state["m"] / state["rounds"])


class Client(ClientHalf[Params]):
    extras = ("step",)

    def finish(self, name, w, anchor, lr, steps):
        broadcast = self.broadcast["m"][name] if self.broadcast else 0
        return {"step": (w - anchor) / steps + broadcast}
'''

ROWS = {"ada": 10, "bob": 30, "cyd": 60}
ROUNDS, STEPS, BETA, SEED = 3, 4, 0.25, 11


def install(folder: Path, how: Callable[[Path, Path], str]) -> str:
    """Install Drift as a third-party distribution, Returns the folder to put on the path."""
    return how(write_distribution(folder / "source", "drift", dedent(MODULE)), folder / "site")


def expected(adapter_zero: dict[str, np.ndarray], rank_shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The same campaign in plain numpy. Clients draw their deltas as the recorded child does."""
    q = np.array(list(ROWS.values())) / sum(ROWS.values())
    x = {name: values.astype(np.float64) for name, values in adapter_zero.items()}
    m = {name: np.zeros(shape) for name, shape in rank_shapes.items()}
    for round_number in range(1, ROUNDS + 1):
        broadcast = {name: values.copy() for name, values in m.items()}
        generators = [np.random.default_rng((SEED, round_number, client)) for client in range(len(ROWS))]
        for name, shape in rank_shapes.items():
            deltas = [rng.standard_normal(shape, dtype=np.float32) / 16 for rng in generators]
            steps = [delta / STEPS + broadcast[name] for delta in deltas]
            m[name] = BETA * m[name] + sum(weight * step for weight, step in zip(q, steps, strict=True))
            x[name] = x[name] + sum(weight * delta for weight, delta in zip(q, deltas, strict=True))
            if round_number > 1:
                x[name] = x[name] + m[name] / (1 + round_number)
    return x


@pytest.mark.parametrize(
    "how", [pytest.param(write_out, id="by-hand"), pytest.param(pip_install, id="pip", marks=pytest.mark.deep)]
)
def test_state_broadcast_and_extras_make_the_round_trip(tmp_path: Path, how: Callable[[Path, Path], str]) -> None:
    path = install(tmp_path / "plugin", how)
    coordinator = QuickCoordinator(tmp_path / "coordinator", PYTHONPATH=path)
    agents = [QuickAgent.recorded_one(coordinator, tmp_path, name, n_rows) for name, n_rows in ROWS.items()]
    without = QuickAgent.recorded_one(coordinator, tmp_path, "dan")
    with ended(coordinator, *agents, without):
        for agent in agents:
            agent.environment["PYTHONPATH"] = path
            agent.start()
        without.start()
        operator = coordinator.operator
        body = campaign_body(
            rounds=ROUNDS,
            training={"steps": STEPS, "seed": SEED},
            algorithm={"name": "drift", "params": {"beta": BETA}},
            selection={"minimum": 3},
            retention={"server_state": 1},
        )
        campaign_id = operator.post("/v1/campaigns", body)["id"]
        assert operator.wait_for(campaign_id, "completed", "failed", "paused")["state"] == "completed"
        tasks = [each for each in operator.items(f"/v1/campaigns/{campaign_id}/tasks") if each["agent_name"] == "dan"]
        adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
        files = []
        for adapter in (adapters[0], adapters[-1]):
            file = tmp_path / f"{adapter['number']}.safetensors"
            file.write_bytes(operator.http.get(f"/v1/blobs/{adapter['blob']['sha256']}").content)
            files.append(file)
        kinds = operator.get("/v1/storage")["bytes_by_kind"]
        [drift] = [each for each in operator.items("/v1/algorithms") if each["name"] == "drift"]
    with AdapterFile(files[0]) as zero, AdapterFile(files[1]) as final:
        shapes = {name: spec.shape for name, spec in zero.tensors.items()}
        wanted = expected({name: zero.read(name).copy() for name in shapes}, shapes)
        for name, values in wanted.items():
            np.testing.assert_allclose(final.read(name), values, rtol=0, atol=1e-6)
    assert drift["broadcast"] == ["m"]
    [prepare] = tasks
    assert (prepare["kind"], prepare["state"], prepare["failure"]["kind"]) == ("prepare", "failed", "algorithm")
    assert prepare["failure"]["message"].startswith(
        "the algorithm drift is not installed at this agent; installed are fed"
    )
    assert "pip install" in prepare["failure"]["message"]
    one_slot = adapters[0]["blob"]["n_bytes"]
    assert one_slot < kinds["server_state"] < 3 * one_slot, "only the last round's state is kept"
    assert set(kinds) == {"adapter", "broadcast", "server_state"}
