"""Keeps the base model in memory between jobs."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from agent.errors import TaskFailed
from agent.train.base.loading import PLAIN, Loader
from agent.train.base.model import Base
from shared.campaign.spec import Quantization
from shared.wire.tasks.leases import FailureKind
from shared.wire.tasks.results import Fingerprint


class ModelCache:
    """Holds one base model: the latest."""

    def __init__(self) -> None:
        self._key: object = None
        self._base: Base | None = None

    @contextmanager
    def base(
        self,
        folder: Path,
        fingerprint: Fingerprint,
        device: torch.device,
        dtype: torch.dtype,
        *,
        quantization: Quantization | None,
        remote_code: bool,
        on_load: Callable[[], None],
        loader: Loader = PLAIN,
    ) -> Iterator[Base]:
        """Lend the base model in *folder*, loaded unless it is cached. Raises TaskFailed (base-model, trainer).

        After an unexpected error in the block the cache drops the model, because its state is unknown.

        Args:
            folder: the model's files.
            fingerprint: their digests; another fingerprint is another model.
            device: where the weights are held.
            dtype: see ``Base``.
            quantization: how the linear layers' weights are quantised, or None.
            remote_code: whether code that comes with the model may run.
            on_load: called before a load, which takes a while.
            loader: see ``Base``.
        """
        key = (folder, fingerprint, device, dtype, quantization, remote_code, loader.identity)
        if self._base is None or self._key != key:
            on_load()
            self._base = None  # first, so that memory never holds two models
            self._base = Base(folder, device, dtype, quantization=quantization, remote_code=remote_code, loader=loader)
            self._key = key
        try:
            yield self._base
        except TaskFailed as error:
            if error.failure.kind is FailureKind.TRAINER:  # somebody else's code left it in some state
                self._base = None
            raise
        except BaseException:
            self._base = None
            raise

    def release(self) -> None:
        """Drop the model, so that its memory is free, for other processes too."""
        self._base = None
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
