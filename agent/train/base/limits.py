"""What a base model's configuration allows of its input: tokens and positions. No weights are read."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class InputLimits:
    """n_embeddings: rows of the embedding; token ids are below it. n_positions: the longest row in tokens.

    None where the configuration names no limit.
    """

    n_embeddings: int | None = None
    n_positions: int | None = None


def read_limits(folder: Path) -> InputLimits:
    """Read the limits of the model in *folder*."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
    return InputLimits(getattr(config, "vocab_size", None), getattr(config, "max_position_embeddings", None))
