"""Adapter 0 has the modules that the campaign names, as agents match them, and the values of an untrained adapter."""

from pathlib import Path

import numpy as np
import pytest

from coordinator.errors import BadUpdate
from coordinator.tasks.checks.update_checks import check_adapter_zero
from shared.adapters.files import write_adapter
from shared.campaign.spec import LoraSection

Q, Q2, UP = "m.layers.0.attn.q_proj", "m.layers.1.attn.q_proj", "m.layers.0.mlp.up_proj"


def adapter(folder: Path, *modules: str, a: float = 0.5, b: float = 0.0) -> Path:
    tensors = {f"{name}.lora_A.weight": np.full((2, 4), a, np.float32) for name in modules}
    tensors |= {f"{name}.lora_B.weight": np.full((4, 2), b, np.float32) for name in modules}
    write_adapter(folder / "adapter", tensors)
    return folder / "adapter"


def refusal(path: Path, targets: list[str] | str) -> str:
    with pytest.raises(BadUpdate) as refused:
        check_adapter_zero(path, LoraSection.model_validate({"rank": 2, "target_modules": targets}))
    return str(refused.value)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "up_proj"], ["attn.q_proj", "up_proj"], [Q, Q2, UP]])
def test_modules_match_by_their_whole_name_or_its_last_parts(tmp_path: Path, targets: list[str] | str) -> None:
    lora = LoraSection.model_validate({"rank": 2, "target_modules": targets})
    assert len(check_adapter_zero(adapter(tmp_path, Q, Q2, UP), lora).tensors) == 6


@pytest.mark.parametrize("other", ["attacker.module", "m.layers.0.attn.xq_proj", "q_proj.inner"])
def test_a_module_that_the_campaign_does_not_name_is_refused(tmp_path: Path, other: str) -> None:
    told = refusal(adapter(tmp_path, Q, other), ["q_proj"])
    assert told == f"{other}: the campaign's lora.target_modules names no such module: q_proj"


def test_a_module_that_is_missing_is_named(tmp_path: Path) -> None:
    told = refusal(adapter(tmp_path, Q), ["q_proj", "up_proj", "v_proj"])
    assert told == "it adapts no module up_proj, v_proj, which the campaign's lora.target_modules names"


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj"]])
@pytest.mark.parametrize("value", [1000.5, -1000.5, 3e38, -3e38])
def test_values_that_no_initialisation_draws_are_refused(
    tmp_path: Path, targets: list[str] | str, value: float
) -> None:
    assert "a value of adapter 0 is beyond ±1000" in refusal(adapter(tmp_path, Q, a=value), targets)


def test_an_adapter_that_changes_the_base_model_already_is_refused(tmp_path: Path) -> None:
    assert "factor B of adapter 0 must be zero" in refusal(adapter(tmp_path, Q, b=-1e-30), "all-linear")
