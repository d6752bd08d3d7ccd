"""The init job writes the adapter 0 that the seed gives, whatever the state of PyTorch and the kind of base."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from agent.train.base.model import Base
from shared.adapters.initial import initial_sha256, initial_tensors
from shared.campaign.spec import BaseSection, LoraSection
from shared.digest import sha256_file
from tests.train.conftest import LORA, Lab, initial_of, read

pytestmark = pytest.mark.train


def test_the_init_job_writes_the_digest_that_anybody_can_compute(lab: Lab, initial: Path) -> None:
    base = Base(lab.model, torch.device("cpu"), torch.float32, remote_code=False)
    with base.adapter(LORA, seed=1) as attached:
        contract = attached.contract
    assert sha256_file(initial) == initial_sha256(contract, 7)
    values = read(initial)
    assert all(values[name].any() == ("lora_A" in name) for name in values)


def test_the_state_of_torch_changes_nothing(lab: Lab, initial: Path, new_lab: Callable[..., Lab]) -> None:
    other = new_lab()
    other.fingerprint = lab.fingerprint
    torch.manual_seed(99)
    torch.set_num_threads(2)
    try:
        assert initial_of(other).read_bytes() == initial.read_bytes()
        torch.set_default_dtype(torch.float64)
        assert initial_of(lab).read_bytes() == initial.read_bytes()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(1)


@pytest.mark.parametrize("scheme", ["int8", "nf4"])
def test_a_quantised_base_has_the_same_adapter_zero(lab: Lab, initial: Path, scheme: Any) -> None:
    quantised = initial_of(lab, base=BaseSection(model="tiny/llama", quantization=scheme))
    assert quantised.read_bytes() == initial.read_bytes()


def test_a_base_of_transposed_layers_has_one_too(lab: Lab, tmp_path: Path) -> None:
    """GPT-2 multiplies by (in, out); its factors A are (r, in) all the same."""
    config = GPT2Config(vocab_size=300, n_positions=8, n_embd=32, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    lora = LoraSection(rank=2, target_modules=["c_attn"])
    base = Base(tmp_path / "base", torch.device("cpu"), torch.float32, remote_code=False)
    with base.adapter(lora, seed=0) as attached:
        attached.draw(seed=7)
        values = {name: tensor.numpy() for name, tensor in attached.tensors().items()}
        expected = dict(initial_tensors(attached.contract, 7))
    assert {name: each.shape for name, each in values.items() if "lora_A" in name} == {
        "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight": (2, 32)
    }
    for name, each in values.items():
        np.testing.assert_array_equal(each, expected[name])


def test_attaching_draws_no_numbers_and_leaves_no_value_to_chance(lab: Lab) -> None:
    base = Base(lab.model, torch.device("cpu"), torch.bfloat16, remote_code=False)
    with base.adapter(LORA, seed=5) as attached:
        state = torch.get_rng_state()
        assert all(tensor.isnan().all() for tensor in attached.tensors().values())
        assert {parameter.dtype for parameter in attached.parameters.values()} == {torch.float32}
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_smaller_rank_starts_from_the_first_components_of_a_larger_one(lab: Lab, initial: Path) -> None:
    smaller = read(initial_of(lab, lora=LORA.at_rank(2)))
    for name, values in read(initial).items():
        np.testing.assert_array_equal(smaller[name], values[:2] if "lora_A" in name else values[:, :2])
