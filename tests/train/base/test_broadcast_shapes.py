"""A broadcast whose tensors have shapes of their own: checked in a real child, and handed to the client half."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.orders.job_files import DELTA_FILE
from agent.orders.protocol import Failed
from shared.adapters.files import slot_name, write_adapter
from shared.adapters.lora import shape_at_rank
from shared.digest import sha256_file
from shared.wire.tasks.leases import FailureKind
from tests.support.distributions import write_distribution
from tests.support.entry_points import write_out
from tests.train.conftest import LORA, Child, Lab, read

pytestmark = pytest.mark.train

MODULE = '''
"""Told: a client uploads what the broadcast holds in place of its delta: a gain times an adapter of another rank."""

from shared.algorithms import AlgorithmParams, ClientHalf, ServerHalf
from shared.adapters.lora import shape_at_rank


class Params(AlgorithmParams):
    rank: int


class Server(ServerHalf[Params]):
    state = broadcast = ("gain", "wide")

    def slot_shape(self, slot, name, shape):
        return (1,) if slot == "gain" else shape_at_rank(name, shape, self.params.rank)

    def combine(self, part, facts):
        return part.x


class Client(ClientHalf[Params]):
    def finish_update(self, delta):
        gain, wide = self.broadcast["gain"], self.broadcast["wide"]
        return {name: gain[name] * wide[name][-d.shape[0] :, -d.shape[1] :] for name, d in delta.items()}
'''

Tensors = dict[str, Any]
WIDE = 2 * LORA.rank


@pytest.fixture
def told(start_child: Callable[..., Child], tmp_path: Path) -> Child:
    """A child in whose environment the algorithm is installed."""
    source = write_distribution(tmp_path / "source", "told", MODULE)
    return start_child(PYTHONPATH=write_out(source, tmp_path / "site"))


def broadcast(adapter: Tensors, rank: int) -> Tensors:
    """A gain for each tensor, and random factors of a rank."""
    rng = np.random.default_rng(0)
    tensors: Tensors = {}
    for number, (name, values) in enumerate(adapter.items()):
        shape = shape_at_rank(name, values.shape, rank)
        tensors[slot_name("gain", name)] = np.float32([1 + number])
        tensors[slot_name("wide", name)] = rng.standard_normal(shape, dtype=np.float32)
    return tensors


def work(lab: Lab, tensors: Tensors, path: Path, rank: int = LORA.rank) -> Any:
    write_adapter(path, tensors)
    adapter = lab.adapter_0()
    ref = {"sha256": sha256_file(path), "n_bytes": path.stat().st_size}
    algorithm = {"algorithm": "told", "algorithm_params": {"rank": WIDE}}
    job = lab.train_job(adapter, **algorithm, rank=rank, steps=1, broadcast=ref)
    return lab.work(job, adapter=adapter, broadcast=path)


@pytest.mark.parametrize("rank", [LORA.rank, 2])
def test_the_client_half_receives_the_values_in_their_own_shapes(
    lab: Lab, told: Child, tmp_path: Path, rank: int
) -> None:
    """Also at a client that trains a smaller rank: the shapes follow from the campaign's."""
    tensors = broadcast(read(lab.adapter_0()), WIDE)
    task = work(lab, tensors, tmp_path / "broadcast", rank)
    told.result(task)
    for name, values in read(task.folder / DELTA_FILE).items():
        wide = tensors[slot_name("wide", name)]
        last = wide[-rank:] if "lora_A" in name else wide[:, -rank:]
        np.testing.assert_array_equal(values, tensors[slot_name("gain", name)] * last)


@pytest.mark.parametrize("rank", [LORA.rank, 4 * LORA.rank])
def test_a_broadcast_of_other_shapes_than_the_algorithm_says_is_refused(
    lab: Lab, told: Child, tmp_path: Path, rank: int
) -> None:
    tensors = broadcast(read(lab.adapter_0()), rank)
    answer, _ = told.send(work(lab, tensors, tmp_path / "broadcast"))
    assert isinstance(answer, Failed)
    assert answer.failure.kind is FailureKind.BASE_MODEL
    assert answer.failure.message.startswith("the broadcast tensors do not fit this base model and the algorithm as in")
    assert "wide/" in answer.failure.message
