"""Calls of a server half, whose errors are the algorithm's."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from coordinator.errors import AlgorithmFailed
from shared.adapters.files import AdapterError
from shared.algorithms import Algorithm

log = logging.getLogger(__name__)


@contextmanager
def calling(algorithm: Algorithm) -> Iterator[None]:
    """Raise AlgorithmFailed if the block, which calls the server half, raises an error of it."""
    try:
        yield
    except (MemoryError, OSError):  # not the algorithm's: the engine tries again
        raise
    except AdapterError as error:
        raise AlgorithmFailed(algorithm.name, str(error)) from error
    except Exception as error:
        log.exception("the algorithm %s failed", algorithm.name)
        raise AlgorithmFailed(algorithm.name, f"{type(error).__name__}; the log has the reason") from error
