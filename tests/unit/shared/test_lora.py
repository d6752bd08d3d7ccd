"""Names of LoRA tensors."""

import pytest

from shared.lora import factor_of, module_of

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
