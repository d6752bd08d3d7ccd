"""Keeps the harness from printing, logging and drawing bars, and its caches out of the user's folders."""

import logging
import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

_LOGGERS = ("lm_eval", "datasets")


@contextmanager
def quiet() -> Iterator[None]:
    """No output and no trace of the harness in the block: no lines, no bars, no caches, no changed random state."""
    import datasets.config
    import lm_eval.api.task

    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    states = random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fedloom-eval-"))
        stack.enter_context(patch.object(datasets.config, "HF_DATASETS_CACHE", folder))
        stack.enter_context(patch.object(lm_eval.api.task, "tqdm", _no_bar))
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            random.setstate(states[0])
            np.random.set_state(states[1])


def _no_bar(iterable: Any, **_: Any) -> Any:
    return iterable
