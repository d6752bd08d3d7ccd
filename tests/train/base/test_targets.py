"""The modules that an adapter covers, in models where their names alone would mislead."""

from typing import Any

import pytest

from agent.errors import TaskFailed
from agent.train.base.targets import choose_targets
from shared.campaign.spec import LoraSection
from tests.zoo.families import BY_NAME

pytestmark = pytest.mark.train


def targets(family: str, names: Any = "all-linear") -> Any:
    return choose_targets(BY_NAME[family].build(), LoraSection(rank=4, alpha=8, target_modules=names))


def leaves(family: str, names: Any = "all-linear") -> set[str]:
    return {name.rpartition(".")[2] for name in targets(family, names).names}


@pytest.mark.parametrize("names", ["all-linear", ["q_proj", "v_proj"]])
def test_layers_of_another_tower_with_the_same_names_stay_frozen(names: Any) -> None:
    chosen = targets("Gemma 3, with images", names)
    assert all(".language_model." in name for name in chosen.names)
    assert {"q_proj", "v_proj"} <= {name.rpartition(".")[2] for name in chosen.names}
    assert chosen.notices == ("9 linear layers of the base model stay frozen: they belong to towers that read no text",)


@pytest.mark.parametrize("family", ["Mixtral", "Qwen3-MoE", "gpt-oss"])
def test_stacked_experts_stay_frozen_and_the_operator_is_told(family: str) -> None:
    chosen = targets(family)
    assert leaves(family) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert chosen.notices == ("the experts of the base model stay frozen, because they are stored as stacked tensors",)


def test_dense_layers_whose_names_peft_takes_for_experts_stay_frozen_too() -> None:
    _, notice = targets("DeepSeek-V3, dense first layer").notices
    assert notice.startswith("down_proj, gate_proj, up_proj outside the experts stay frozen too")
    assert "gate_proj" not in leaves("DeepSeek-V3, dense first layer")
    assert "gate_proj" in leaves("Qwen2-MoE, shared expert"), "a shared expert is a plain layer"


@pytest.mark.parametrize(
    ("family", "names", "unfit"),
    [
        ("Qwen3-MoE", ["q_proj", "gate_proj", "up_proj"], "gate_proj, up_proj"),
        ("Mixtral", ["w1", "w3"], "w1, w3"),
        ("gpt-oss", ["gate_up_proj"], "gate_up_proj"),
        ("OLMoE", ["experts.down_proj"], "experts.down_proj"),
    ],
)
def test_experts_named_by_a_campaign_are_refused(family: str, names: list[str], unfit: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        targets(family, names)
    assert f"in this model {unfit} means the experts" in str(caught.value)


def test_a_router_that_derives_from_a_linear_layer_is_no_linear_layer() -> None:
    assert "router" not in leaves("Llama 4, text")
    assert "query_key_value" in leaves("Falcon"), "its own linear layers multiply as others do"


def test_unknown_names_are_refused_with_those_that_exist() -> None:
    with pytest.raises(TaskFailed, match="no linear module query; it has c_attn, c_fc, c_proj"):
        targets("GPT-2, transposed weights", ["c_attn", "query"])
