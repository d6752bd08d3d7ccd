"""Checkpoints: a training's state between two optimizer steps, so that a crash costs the steps since the latest one.

A training that goes on from one ends, on a CPU, with the very bits of one that was never broken: the weights, the
optimizer and the random states are as they were, and the next example follows. The round still begins where it began:
its anchor and its delta are those of the global adapter.

A checkpoint is good for one training only, and to have none costs no more than time. So one that is of another training
or that cannot be read is not used, and the training begins anew.
"""

import logging
import random
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
import trl
from torch import Tensor, nn
from transformers import TrainerCallback

from agent import __version__
from agent.train.kinds.federated import FederatedTrainerMixin, TrainingHistory
from shared import crash_points
from shared.digest import sha256_file, sha256_of_parts
from shared.durable import atomic_write
from shared.wire.jobs import TrainJob

log = logging.getLogger(__name__)

_NO_MATTER = {"campaign_name", "committed_update", "state_versions"}
"""Fields of a job that its delta does not follow from. What was kept with the counted delta is looked at itself."""
_VERSIONS = [__version__, torch.__version__, transformers.__version__, peft.__version__, trl.__version__]


@dataclass(frozen=True)
class Checkpoint:
    """adapter: the trained tensors. optimizer, scaler: their ``state_dict``; a scaler there is under fp16 only.
    randomness: the states of all generators that a model may draw from."""

    history: TrainingHistory
    adapter: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any] | None
    randomness: dict[str, Any]


def identity(
    job: TrainJob, rows_sha256: str, client_state: Path | None, device: torch.device, dtype: torch.dtype
) -> str:
    """The digest of all that a training's delta follows from, except what changes its rounding only: threads, and the
    micro-batch, which is halved where memory runs out.

    client_state: the file of what the client remembers. Versions: another one may step, or draw, in another way.
    """
    state_sha256 = sha256_file(client_state) if client_state is not None else ""
    quantizer = metadata.version("bitsandbytes") if job.base.quantization is not None else ""
    parts = [job.model_dump_json(exclude=_NO_MATTER), rows_sha256, state_sha256, device.type, str(dtype)]
    return sha256_of_parts([*parts, *_VERSIONS, quantizer])


def save(path: Path, identity: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in the place of an earlier one, whole or not at all. Raises OSError."""
    content = vars(checkpoint) | {"history": asdict(checkpoint.history), "identity": identity}
    with atomic_write(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk: torch says that its archive has a wrong size
                raise error.__context__ from None
            raise


def load(path: Path, identity: str) -> Checkpoint | None:
    """The checkpoint of the training with this identity; None where there is none that can be used."""
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # torch writes checksums, and reads without looking at them
        if broken is not None:
            log.warning("the checkpoint is damaged; training begins anew")
            return None
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("identity") != identity:
            log.info("the checkpoint is of another training; this one begins anew")
            return None
        return Checkpoint(**content | {"history": TrainingHistory(**content["history"])})
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, training can do without
        log.warning("the checkpoint cannot be read (%s); training begins anew", type(error).__name__)
        return None


class Checkpoints(TrainerCallback):
    """Makes a trainer go on from a checkpoint where there is one, and keeps the newest one only.

    every: optimizer steps from one to the next; 0 makes none.
    """

    def __init__(self, path: Path, identity: str, *, every: int) -> None:
        self._path = path
        self._identity = identity
        self._every = every
        self._found = load(path, identity)
        self.done = self._found.history.done if self._found is not None else 0
        """Optimizer steps that are done already. The trainer is given the examples of the others."""

    def accompany(self, trainer: FederatedTrainerMixin, adapter: Mapping[str, nn.Parameter]) -> None:
        """Put a trainer that follows an algorithm from the global *adapter* on to where the checkpoint was made."""
        self._trainer: Any = trainer
        self._adapter = adapter
        self._device = next(iter(adapter.values())).device
        trainer.add_callback(self)  # type: ignore[attr-defined]
        if self._found is not None:
            for name, value in adapter.items():
                value.data.copy_(self._found.adapter[name])
            trainer.go_on(self._found.history)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_kwargs: Any) -> None:  # noqa: ARG002
        """Before the first step, and not earlier: the trainer makes its optimizer late, and draws as it starts."""
        found, self._found = self._found, None
        if found is None:
            return
        self._trainer.optimizer.load_state_dict(found.optimizer)
        if found.scaler is not None:
            self._trainer.accelerator.scaler.load_state_dict(found.scaler)
        _set_randomness(found.randomness, self._device)

    def on_step_end(self, args: Any, state: Any, control: Any, **_kwargs: Any) -> None:  # noqa: ARG002
        """Save one where it is time. A disk that is full costs the checkpoint, not the training."""
        done = self._trainer.history.done
        if self._every == 0 or done % self._every != 0:
            return
        try:
            save(self._path, self._identity, self._now())
        except OSError as error:
            log.warning("no checkpoint after step %d: %s; training goes on", done, error)
        else:
            crash_points.reach("child: checkpoint written")

    def _now(self) -> Checkpoint:
        scaler = self._trainer.accelerator.scaler
        return Checkpoint(
            history=self._trainer.history,
            adapter={name: value.detach() for name, value in self._adapter.items()},
            optimizer=self._trainer.optimizer.state_dict(),
            scaler=scaler.state_dict() if scaler is not None else None,
            randomness=_randomness(self._device),
        )


def _randomness(device: torch.device) -> dict[str, Any]:
    """The states of all generators, as tensors and plain values."""
    numpys: Any = np.random.get_state(legacy=False)
    key = numpys["state"]["key"].tolist()
    return {
        "python": random.getstate(),
        "numpy": numpys | {"state": numpys["state"] | {"key": key}},
        "torch": torch.get_rng_state(),
        "device": None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(),
    }


def _set_randomness(states: dict[str, Any], device: torch.device) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["device"] is not None:
        torch.get_device_module(device).set_rng_state(states["device"])
