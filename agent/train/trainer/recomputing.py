"""Layers that keep only their inputs, and compute the rest again in the backward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from agent.train.trainer.packing import current_layout, joined


@contextmanager
def recomputed(language_model: Any, *, recomputes: bool) -> Iterator[None]:
    """Have the layers of the model compute again, in the block, if that is wanted."""
    if not recomputes:
        yield
        return
    options = {"use_reentrant": False, "context_fn": _contexts}
    language_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    try:
        yield
    finally:
        language_model.gradient_checkpointing_disable()


def can_recompute(language_model: Any) -> bool:
    """Whether the layers of the model can."""
    return bool(getattr(language_model, "supports_gradient_checkpointing", False))


def _contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """The contexts of a layer's first computation and of the second one, in which it has to know the same rows."""
    layout = current_layout()
    return nullcontext(), nullcontext() if layout is None else joined(layout)
