"""Ways to compute a loss that are tried on a model and undone again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent.train.trainer.head import mark_own_head
from agent.train.trainer.packing import mark_joining


@contextmanager
def tried(
    language_model: Any, *, own_head: bool, joins: bool, shares: bool = False, draws: bool = False
) -> Iterator[None]:
    """Mark the model for the duration of the block, and remove the heads that the block adds to it.

    Args:
        language_model: the bare model.
        own_head: whether its own head scores.
        joins: whether it takes the rows of a batch end to end.
        shares: whether it takes the beginnings that they share once.
        draws: whether it draws at random in training.
    """
    mark_own_head(language_model, needed=own_head)
    mark_joining(language_model, joins=joins, shares=shares, draws=draws)
    before = vars(language_model).get("forward")
    try:
        yield
    finally:
        mark_own_head(language_model, needed=False)
        mark_joining(language_model, joins=False, shares=False, draws=True)
        vars(language_model).pop("forward", None)
        if before is not None:
            language_model.forward = before
