"""What configurations allow of tokens and positions, family by family."""

from pathlib import Path
from typing import Any

import pytest
import transformers as T  # noqa: N812

from agent.train.base.limits import NO_LIMITS, InputLimits, limits_of, read_limits

pytestmark = pytest.mark.train

TEXT = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}

LONG_ROPE: dict[str, Any] = {
    "original_max_position_embeddings": 64,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [2.0] * 8,
        "original_max_position_embeddings": 64,
    },
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("config", "n_positions"),
    [
        (T.LlamaConfig(**TEXT, max_position_embeddings=512), 512),
        (T.GPT2Config(vocab_size=300, n_positions=64), 64),
        (T.GPTJConfig(vocab_size=300, n_positions=64), 64),
        (T.MptConfig(vocab_size=300, max_seq_len=64), 64),
        (T.OPTConfig(vocab_size=300, max_position_embeddings=64), 64),
        (T.FalconConfig(vocab_size=300, max_position_embeddings=64), 64),
        (T.FalconConfig(vocab_size=300, alibi=True), None),
        (T.BloomConfig(vocab_size=300, seq_length=2048), None),
        (T.Phi3Config(**TEXT, pad_token_id=0, max_position_embeddings=512, **LONG_ROPE), 64),
        (T.LlamaConfig(**TEXT, max_position_embeddings=512, rope_parameters=YARN), 512),
        (T.MambaConfig(vocab_size=300), None),
        (T.XLNetConfig(vocab_size=300), None),
        (T.RobertaConfig(vocab_size=300, max_position_embeddings=514, pad_token_id=1), 512),
        (T.XLMRobertaConfig(vocab_size=300, max_position_embeddings=66, pad_token_id=1), 64),
        (T.BertConfig(vocab_size=300, max_position_embeddings=64), 64),
        (T.XGLMConfig(vocab_size=300, max_position_embeddings=64), 64),
        (T.Gemma3Config(text_config={**TEXT, "max_position_embeddings": 64, "model_type": "gemma3_text"}), 64),
    ],
    ids=lambda value: value.model_type if isinstance(value, T.PretrainedConfig) else str(value),
)
def test_limits_are_read_from_every_familys_own_names(config: Any, n_positions: int | None, tmp_path: Path) -> None:
    assert limits_of(config) == InputLimits(300, n_positions)
    config.save_pretrained(tmp_path)
    assert read_limits(tmp_path) == InputLimits(300, n_positions)


@pytest.mark.parametrize(
    ("config", "build"),
    [
        (T.GPT2Config(vocab_size=300, n_positions=8, n_embd=16, n_layer=1, n_head=1), T.GPT2LMHeadModel),
        (T.MptConfig(vocab_size=300, max_seq_len=8, d_model=16, n_layers=1, n_heads=1), T.MptForCausalLM),
        (
            T.OPTConfig(**{**TEXT, "ffn_dim": 16, "word_embed_proj_dim": 16, "max_position_embeddings": 8}),
            T.OPTForCausalLM,
        ),
        (
            T.RobertaConfig(**TEXT, max_position_embeddings=10, pad_token_id=1, is_decoder=True),
            T.RobertaForCausalLM,
        ),
    ],
    ids=lambda value: value.model_type if isinstance(value, T.PretrainedConfig) else "",
)
def test_the_limit_is_the_longest_row_that_such_a_model_takes(config: Any, build: Any) -> None:
    import torch

    model = build(config)
    limit = limits_of(config).n_positions
    assert limit == 8
    assert model(torch.full((1, limit), 5)).logits.shape == (1, limit, 300)
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, limit + 1), 5))
    with pytest.raises(IndexError):
        model(torch.full((1, 1), limits_of(config).n_embeddings))


def test_a_configuration_that_cannot_be_read_names_no_limits(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == NO_LIMITS
    (tmp_path / "config.json").write_text("{")
    assert read_limits(tmp_path) == NO_LIMITS
    (tmp_path / "config.json").write_text('{"model_type": "of-its-own", "auto_map": {"AutoConfig": "a.B"}}')
    assert read_limits(tmp_path) == NO_LIMITS


def test_the_configuration_of_a_model_with_its_own_code_is_read_if_that_may_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "own", "padded_vocab_size": 64, "vocab_size": 60, "max_position_embeddings": 32, '
        '"auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}'
    )
    (tmp_path / "configuration_own.py").write_text(
        "from transformers import PretrainedConfig\n\n\nclass OwnConfig(PretrainedConfig):\n    model_type = 'own'\n"
    )
    assert read_limits(tmp_path) == NO_LIMITS
    assert read_limits(tmp_path, remote_code=True) == InputLimits(64, 32)
