"""Heads that are tried on a model and removed again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent.train.trainer.head import mark_own_head


@contextmanager
def tried_head(language_model: Any, *, own_head: bool) -> Iterator[None]:
    """Mark the model for the duration of the block, and remove the heads that the block adds to it."""
    mark_own_head(language_model, needed=own_head)
    before = vars(language_model).get("forward")
    try:
        yield
    finally:
        mark_own_head(language_model, needed=False)
        vars(language_model).pop("forward", None)
        if before is not None:
            language_model.forward = before
