"""State and broadcast whose tensors have shapes of their own."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from coordinator.engine.aggregation.aggregate import Aggregated, aggregate
from coordinator.engine.aggregation.files import ClientUpdate
from coordinator.errors import AlgorithmFailed, BadUpdate
from coordinator.tasks.checks import update_checks
from shared import algorithms
from shared.adapters.files import AdapterError, AdapterFile, slot_name, write_adapter
from shared.adapters.lora import shape_at_rank
from shared.algorithms import Algorithm, AlgorithmParams, ClientHalf, Part, RoundFacts, ServerHalf
from shared.algorithms.base import Array
from shared.campaign.spec import CampaignSpec, LoraSection
from tests.support.scripted import campaign_body

A, B = "q.lora_A.weight", "q.lora_B.weight"
LORA = LoraSection(rank=2, alpha=6)
X = {A: np.float32([[1, 2, 3], [4, 5, 6]]), B: np.float32([[1, 0], [0, 1], [1, 1], [2, 3]])}
DELTA = {name: np.full_like(values, 0.5) for name, values in X.items()}


class Params(AlgorithmParams):
    """No parameters."""


class Server(ServerHalf[Params]):
    """State: a count for each tensor, and the adapter twice, at twice the rank. Broadcasts both."""

    state = broadcast = ("count", "wide")

    def slot_shape(self, slot: str, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return () if slot == "count" else shape_at_rank(name, shape, 4)

    def initial_state(self, slot: str, shape: tuple[int, ...]) -> Array:
        return super().initial_state(slot, shape) + np.float32(7 if slot == "count" else 0)

    def combine(self, part: Part, facts: RoundFacts) -> Mapping[str, Array]:
        for name, x in part.x.items():
            state = part.state[name]
            assert state["wide"].shape == shape_at_rank(name, x.shape, 4)
            state["count"] = state["count"] + np.float32(1)
            state["wide"] = np.concatenate([x, x + 100], axis=0 if name == A else 1)
        return {name: x + part.updates[name].mean_delta() for name, x in part.x.items()}


class Empty(Server):
    """Gives a slot a shape without elements."""

    def slot_shape(self, slot: str, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (3, 0)


class Deep(Server):
    """Gives a slot more dimensions than a file can have."""

    def slot_shape(self, slot: str, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (1,) * 9


class Changing(Server):
    """Keeps a state of another shape than it declares."""

    def combine(self, part: Part, facts: RoundFacts) -> Mapping[str, Array]:
        for name, x in part.x.items():
            part.state[name]["wide"] = x
        return part.x


def algorithm(server: type[ServerHalf[Params]] = Server) -> Algorithm:
    return Algorithm("shaped", "", Params, server, type("Client", (ClientHalf,), {}))


def close_round(folder: Path, made_by: Algorithm, number: int = 1, before: Aggregated | None = None) -> Aggregated:
    (out := folder / f"out-{number}").mkdir()
    write_adapter(folder / "x", X)
    write_adapter(folder / "delta", DELTA)
    update = ClientUpdate(0, 1.0, 1.0, folder / "delta", None)
    facts = RoundFacts(number=number, seed=0, scale=LORA.scale, first=before is None)
    parent, state = (before.adapter, before.state) if before else (folder / "x", None)
    return aggregate(made_by, Params(), parent, state, [update], out, facts=facts, lora=LORA)


def read(path: Path | None) -> dict[str, np.ndarray]:
    assert path is not None
    with AdapterFile(path) as file:
        return {name: file.read(name).copy() for name in file.tensors}


def test_state_and_broadcast_have_the_shapes_that_the_server_half_gives(tmp_path: Path) -> None:
    first = close_round(tmp_path, algorithm())
    second = close_round(tmp_path, algorithm(), 2, first)
    for made, x, count in ((first, X, 8), (second, read(first.adapter), 9)):
        for file in (read(made.state), read(made.broadcast)):
            assert set(file) == {slot_name(slot, name) for slot in ("count", "wide") for name in X}
            for name, axis in ((A, 0), (B, 1)):
                assert file[slot_name("count", name)] == count
                wide = np.concatenate([x[name], x[name] + 100], axis=axis)
                np.testing.assert_array_equal(file[slot_name("wide", name)], wide)


@pytest.mark.parametrize(
    ("server", "error", "says"),
    [
        (Empty, AlgorithmFailed, "the algorithm shaped failed: count/q.lora_A.weight: shape [3, 0] has more than 8"),
        (
            Deep,
            AlgorithmFailed,
            "the algorithm shaped failed: count/q.lora_A.weight: shape [1, 1, 1, 1, 1, 1, 1, 1, 1]",
        ),
        (Changing, AdapterError, "wide/q.lora_A.weight: shape [2, 3], expected [4, 3]"),
    ],
)
def test_a_shape_that_no_file_can_hold_or_that_was_not_declared_is_an_error(
    tmp_path: Path, server: type[ServerHalf[Params]], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=re.escape(says)):
        close_round(tmp_path, algorithm(server))


def test_a_shape_that_no_file_can_hold_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = write_adapter(tmp_path / "x", X)
    spec = CampaignSpec.model_validate(campaign_body())
    monkeypatch.setattr(algorithms, "find", lambda _: algorithm(Empty))
    with pytest.raises(BadUpdate, match=re.escape("shape [3, 0]")):
        update_checks.check_parts(contract, spec)
