"""What a base model's configuration allows of its input: tokens and positions. No weights are read."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_N_EMBEDDINGS = ("padded_vocab_size", "vocab_size")
_N_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
_AFTER_PADDING = {
    "camembert",
    "data2vec-text",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}
"""Families that number positions from the padding token's id on, so that they use fewer than they have."""


_CHANGING_ROPE = ("longrope", "dynamic")


@dataclass(frozen=True)
class InputLimits:
    """n_embeddings: rows of the embedding; token ids are below it. n_positions: the longest row in tokens.

    None where the configuration names no limit.
    """

    n_embeddings: int | None = None
    n_positions: int | None = None

    def takes(self, n_tokens: int, largest_id: int) -> bool:
        """Whether the model takes rows of up to *n_tokens* tokens with ids up to *largest_id*."""
        fits = self.n_positions is None or n_tokens <= self.n_positions
        return fits and (self.n_embeddings is None or largest_id < self.n_embeddings)

    def exceeded_by(self, tokens: Sequence[int]) -> str:
        """Why the model cannot take a row of these tokens, as the end of a message; empty if it can.

        The message leaves the machine, so it tells the place of a token and not its id.
        """
        if self.n_positions is not None and len(tokens) > self.n_positions:
            return (
                f" has {len(tokens)} tokens, more than the model's {self.n_positions} positions: the campaign's "
                f"training.max_length must be at most {self.n_positions}"
            )
        beyond = (place for place, token in enumerate(tokens, 1) if token >= (self.n_embeddings or sys.maxsize))
        if (place := next(beyond, None)) is not None:
            return (
                f": token {place} of the row is beyond the model's {self.n_embeddings} embeddings: the tokenizer does "
                "not belong to this model, or the model's embeddings were not resized for it"
            )
        return ""


NO_LIMITS = InputLimits()


def read_limits(folder: Path, *, remote_code: bool = False) -> InputLimits:
    """Read the limits of the model in *folder*; none if its configuration cannot be read.

    remote_code: whether code that comes with the model may run.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=remote_code)
        return limits_of(config)
    except Exception:  # code that comes with a model can raise anything; loading the model reports it in words
        log.warning("the limits of the model's configuration cannot be read", exc_info=True)
        return NO_LIMITS


def limits_of(config: Any) -> InputLimits:
    """The limits that a model's configuration names. config: of transformers; of several models, the text's counts."""
    config = config.get_text_config()
    n_positions = _first_number(config, _N_POSITIONS)
    if getattr(config, "alibi", None) is True or config.model_type == "bloom":
        n_positions = None  # attention with linear biases has no table of positions
    if n_positions is not None and (original := _original_positions(config)) is not None:
        n_positions = min(n_positions, original)
    if n_positions is not None and config.model_type in _AFTER_PADDING:
        n_positions -= (config.pad_token_id or 0) + 1
    return InputLimits(_first_number(config, _N_EMBEDDINGS), n_positions)


def _original_positions(config: Any) -> int | None:
    """The positions up to which a rotary embedding stays as it is, if it changes with the longest row of a batch.

    Beyond them the loss of a row would depend on the others of its batch.
    """
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type")) not in _CHANGING_ROPE:
        return None
    original = rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
    return original if type(original) is int else None


def _first_number(config: Any, names: Sequence[str]) -> int | None:
    """The first of some values that is a whole number above zero: there are -1 and null for no limit."""
    values = (getattr(config, name, None) for name in names)
    return next((value for value in values if type(value) is int and value > 0), None)
