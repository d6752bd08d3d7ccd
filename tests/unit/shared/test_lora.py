"""Names of LoRA tensors, and adapters at a smaller rank."""

import numpy as np
import pytest

from shared.adapters.files import AdapterError, Contract, TensorSpec
from shared.adapters.lora import at_rank, cut, factor_of, module_of, shape_at_rank
from shared.campaign.spec import LoraSection

LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("tensor", "module", "factor"),
    [
        (f"{LAYER}.lora_A.weight", LAYER, (LAYER, "A")),
        (f"{LAYER}.lora_B.weight", LAYER, (LAYER, "B")),
        ("model.embed_tokens.lora_embedding_A", "model.embed_tokens", None),
        ("model.embed_tokens.lora_embedding_B", "model.embed_tokens", None),
        (f"{LAYER}.lora_C.weight", None, None),
        (f"{LAYER}.lora_A.bias", None, None),
        (f"{LAYER}.weight", None, None),
        ("lora_A.weight", None, None),
    ],
)
def test_modules_and_factors(tensor: str, module: str | None, factor: tuple[str, str] | None) -> None:
    assert module_of(tensor) == module
    assert factor_of(tensor) == factor


SHAPES = {
    f"{LAYER}.lora_A.weight": (8, 30),
    f"{LAYER}.lora_B.weight": (20, 8),
    "model.embed_tokens.lora_embedding_A": (8, 100),
    "model.embed_tokens.lora_embedding_B": (64, 8),
}
AT_3 = [(3, 30), (20, 3), (3, 100), (64, 3)]


def test_a_contract_at_another_rank_has_its_factors_at_that_rank() -> None:
    contract = Contract.of({name: TensorSpec("BF16", shape) for name, shape in SHAPES.items()})
    smaller = at_rank(contract, 3)
    assert smaller.tensors == {name: TensorSpec("BF16", shape) for name, shape in zip(SHAPES, AT_3, strict=True)}
    assert at_rank(smaller, 8) == contract


@pytest.mark.parametrize(("name", "smaller"), list(zip(SHAPES, AT_3, strict=True)))
def test_a_cut_is_the_first_components(name: str, smaller: tuple[int, int]) -> None:
    values = np.arange(np.prod(SHAPES[name]), dtype=np.float32).reshape(SHAPES[name])
    np.testing.assert_array_equal(cut(name, values, 3), values[: smaller[0], : smaller[1]])
    np.testing.assert_array_equal(cut(name, values, 8), values)
    with pytest.raises(AdapterError, match=r"has fewer than 9 components"):
        cut(name, values, 9)


def test_the_product_of_cut_factors_is_the_sum_of_the_first_components() -> None:
    names = [f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight"]
    a, b = (np.random.default_rng(0).standard_normal(SHAPES[name]).astype(np.float32) for name in names)
    components = sum(np.outer(b[:, component], a[component]) for component in range(3))
    np.testing.assert_allclose(cut(names[1], b, 3) @ cut(names[0], a, 3), components, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        (f"{LAYER}.weight", (8, 30), "not a LoRA factor, so it has no rank"),
        (f"{LAYER}.lora_magnitude_vector.weight", (8, 30), "not a LoRA factor, so it has no rank"),
        ("conv.lora_A.weight", (8, 3, 3, 3), "is not a matrix, so it cannot have another rank"),
        (f"{LAYER}.lora_A.weight", (8,), "is not a matrix, so it cannot have another rank"),
    ],
)
def test_what_has_no_components_is_refused_by_name(name: str, shape: tuple[int, ...], reason: str) -> None:
    for refused in (lambda: cut(name, np.zeros(shape, dtype=np.float32), 2), lambda: shape_at_rank(name, shape, 2)):
        with pytest.raises(AdapterError, match=reason) as caught:
            refused()
        assert caught.value.tensor == name


@pytest.mark.parametrize(("rank", "alpha"), [(8, 16.0), (6, 1.0), (7, 3.0)])
def test_a_section_at_another_rank_has_the_same_scale(rank: int, alpha: float) -> None:
    section = LoraSection(rank=rank, alpha=alpha, dropout=0.1, freeze_a=True)
    assert section.at_rank(rank) is section
    smaller = section.at_rank(2)
    assert smaller == section.model_copy(update={"rank": 2, "alpha": smaller.alpha})
    assert smaller.scale == pytest.approx(section.scale, rel=1e-15)
