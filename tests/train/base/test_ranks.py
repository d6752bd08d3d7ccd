"""A client of a smaller rank: it trains the first components of the global adapter, at the campaign's scale."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer

from agent.configuration.settings import ComputeSettings
from agent.errors import TaskFailed
from agent.orders.job_files import CLIENT_STATE_FILE, DELTA_FILE, EXTRAS_FILE
from agent.train.base.adapter_files import load_adapter
from agent.train.base.model import Base
from shared.adapters.files import slot_name, write_adapter
from shared.adapters.lora import cut
from shared.wire.tasks.leases import FailureKind
from tests.train.conftest import LORA, Lab, read

pytestmark = pytest.mark.train

SMALLER = LORA.at_rank(2)


def cut_adapter(adapter: Path, folder: Path, rank: int) -> Path:
    """The adapter with its first components only."""
    path = folder / f"rank-{rank}.safetensors"
    write_adapter(path, {name: cut(name, values, rank) for name, values in read(adapter).items()})
    return path


def test_a_smaller_adapter_holds_the_first_components_at_the_same_scale(lab: Lab) -> None:
    adapter = lab.adapter_0()
    base = Base(lab.model, torch.device("cpu"), torch.float32, remote_code=False)
    with base.adapter(SMALLER, seed=0) as attached:
        load_adapter(attached, adapter, rank=LORA.rank)
        scales = {module.scaling["default"] for module in attached.model.modules() if isinstance(module, LoraLayer)}
        held = {name: tensor.numpy() for name, tensor in attached.tensors().items()}
    assert scales == {LORA.scale}
    for name, values in read(adapter).items():
        axis = 0 if "lora_A" in name else 1
        np.testing.assert_array_equal(held[name], values.take([0, 1], axis=axis))


@pytest.mark.parametrize("freeze_a", [False, True])
def test_a_client_trains_as_in_a_campaign_of_its_own_rank(lab: Lab, tmp_path: Path, freeze_a: bool) -> None:
    """Bit for bit, if that campaign starts from the first components and has the same scale."""
    lora = LORA.model_copy(update={"freeze_a": freeze_a})
    adapter = lab.adapter_0()
    cut_down = cut_adapter(adapter, tmp_path, 2)
    mixed = lab.work(lab.train_job(adapter, lora=lora, rank=2), adapter=adapter)
    alone = lab.work(lab.train_job(cut_down, lora=lora.at_rank(2)), adapter=cut_down)
    lab.run(mixed)
    lab.run(alone)
    delta = read(mixed.folder / DELTA_FILE)
    assert {name for name, values in delta.items() if values.any()} == set(delta)
    assert any("lora_A" in name for name in delta) is not freeze_a
    assert (mixed.folder / DELTA_FILE).read_bytes() == (alone.folder / DELTA_FILE).read_bytes()


def test_extras_and_client_state_have_the_clients_own_shapes(lab: Lab) -> None:
    """With SCAFFOLD's client half; its server half does not mix ranks."""
    adapter = lab.adapter_0()
    scaffold = {"algorithm": "scaffold", "rank": 2, "optimizer": "sgd"}
    first = lab.work(lab.train_job(adapter, **scaffold), adapter=adapter)
    result = lab.run(first)
    delta = read(first.folder / DELTA_FILE)
    for file, slot in ((EXTRAS_FILE, "delta_c"), (CLIENT_STATE_FILE, "c_k")):
        shapes = {name: values.shape for name, values in read(first.folder / file).items()}
        assert shapes == {slot_name(slot, name): values.shape for name, values in delta.items()}
    state = shutil.copy(first.folder / CLIENT_STATE_FILE, lab.folder / "c_k")
    second = lab.train_job(adapter, **scaffold, committed_update=result.delta)
    assert lab.run(lab.work(second, adapter=adapter, client_state=state)).client_state_lost is False
    full = lab.train_job(adapter, algorithm="scaffold", committed_update=result.delta)
    assert lab.run(lab.work(full, adapter=adapter, client_state=state)).client_state_lost is True


def test_the_reference_of_preferences_has_the_campaigns_rank(lab: Lab) -> None:
    adapter = lab.adapter_0()
    dpo = {"beta": 0.3, "reference": "initial"}
    losses = []
    for rank in (4, 2):
        job = lab.train_job(adapter, training_kind="dpo", kind_params=dpo, rank=rank)
        losses.append(lab.run(lab.work(job, adapter=adapter, reference=adapter)).metrics["train_loss_first"])
    assert losses[0] == pytest.approx(np.log(2), abs=2e-6), "it starts from its reference"
    assert abs(losses[1] - np.log(2)) > 1e-4, "it starts from a part of its reference"


@pytest.mark.parametrize(("maximum", "rank"), [(None, 4), (3, 3), (4, 4), (9, 4)])
def test_an_agent_answers_the_rank_that_it_trains(lab: Lab, maximum: int | None, rank: int) -> None:
    compute = ComputeSettings(device="cpu", threads=1, max_lora_rank=maximum)
    assert lab.run(lab.work(lab.prepare_job(), compute=compute)).rank == rank


@pytest.mark.parametrize("case", ["a rank above the campaign's", "an adapter of another rank"])
def test_an_adapter_without_these_components_is_refused(lab: Lab, tmp_path: Path, case: str) -> None:
    adapter = lab.adapter_0()
    changes: dict[str, Any] = {"rank": 8}
    if case == "an adapter of another rank":
        adapter, changes = cut_adapter(adapter, tmp_path, 3), {"rank": 2}
    with pytest.raises(TaskFailed, match=r"the adapter does not fit this base model: .*lora_A") as caught:
        lab.run(lab.work(lab.train_job(adapter, **changes), adapter=adapter))
    assert caught.value.failure.kind is FailureKind.BASE_MODEL
