"""Checkpoints: a training's state between two optimizer steps, so that a crash loses only the steps since the latest.

On a CPU a resumed training ends with exactly the bits of an uninterrupted one: weights, optimizer and random states are
restored, and the next example follows. The start of the round does not change: the anchor and the delta refer to the
global adapter.

A checkpoint is valid for one training only, and a missing one costs nothing but time. So a checkpoint of another
training, or a damaged one, is ignored, and the training starts over.
"""

import io
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
from agent.orders.jobs import TrainJob
from agent.train.distributed.group import ALONE, Group
from agent.train.trainer.client_steps import TrainingHistory
from agent.train.trainer.federated import FederatedTrainerMixin
from shared import crash_points
from shared.digest import sha256_file, sha256_of_parts
from shared.system.durable import atomic_write

log = logging.getLogger(__name__)

_IRRELEVANT_FIELDS = {"start_sha256", "campaign_name", "committed_update", "state_versions"}
"""Fields of a job that do not influence its delta. The client state is digested itself."""
_VERSIONS = [__version__, torch.__version__, transformers.__version__, peft.__version__, trl.__version__]


@dataclass(frozen=True)
class Checkpoint:
    """A training's state between two optimizer steps. The field names are the keys of the file.

    Attributes:
        history: the course of the training so far.
        adapter: the trained tensors, name to float32 tensor of the parameter's shape.
        optimizer: the optimizer's ``state_dict``.
        scaler: the loss scaler's ``state_dict``; None unless the base is float16.
        randomness: the states of all generators that a model may draw from, by rank.
    """

    history: TrainingHistory
    adapter: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any] | None
    randomness: list[dict[str, Any]]


def training_identity(
    job: TrainJob,
    rows_sha256: str,
    client_state: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    trainer: str,
) -> str:
    """Digest everything that determines a training's delta.

    Omitted is what changes only the rounding, and what dropout draws: threads, the number of processes, and the
    micro-batch, which is halved when memory runs out. The
    libraries' versions are included, because another version may step or draw differently.

    Args:
        job: the training.
        rows_sha256: the digest of all rows that may be drawn.
        client_state: the file of the client state, or None.
        device: only its type matters.
        dtype: the dtype of the frozen weights.
        trainer: the owner's own, in its version; empty for Fedloom's.
    """
    state_sha256 = sha256_file(client_state) if client_state is not None else ""
    quantizer = metadata.version("bitsandbytes") if job.base.quantization is not None else ""
    parts = [job.model_dump_json(exclude=_IRRELEVANT_FIELDS), rows_sha256, state_sha256, device.type, str(dtype)]
    return sha256_of_parts([*parts, *_VERSIONS, quantizer, trainer])


def save(path: Path, identity: str, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in the file, atomically. Raises OSError."""
    content = vars(checkpoint) | {"history": asdict(checkpoint.history), "identity": identity}
    with atomic_write(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk, which torch reports as a wrong archive size
                raise error.__context__ from None
            raise


def load(path: Path, identity: str) -> Checkpoint | None:
    """Load the checkpoint of the training with this identity. Returns None if no usable one exists."""
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch writes checksums, but does not verify them
        if damaged is not None:
            log.warning("the checkpoint is damaged; training starts over")
            return None
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("identity") != identity:
            log.info("the checkpoint belongs to another training; this one starts over")
            return None
        return Checkpoint(**content | {"history": TrainingHistory(**content["history"])})
    except Exception as error:  # noqa: BLE001 - training can always start over
        log.warning("the checkpoint cannot be read (%s); training starts over", type(error).__name__)
        return None


class CheckpointCallback(TrainerCallback):
    """Resumes a trainer from the checkpoint in *path*, if a usable one exists, and saves new ones over it.

    every: optimizer steps between two checkpoints; 0 disables them. group: the ranks that train together: all resume,
    and rank 0 saves.
    """

    def __init__(self, path: Path, identity: str, *, every: int, group: Group = ALONE) -> None:
        self._path = path
        self.identity = identity
        self._every = every
        self._group = group
        self._resumed = load(path, identity)
        self.steps_done = self._resumed.history.done if self._resumed is not None else 0
        """Optimizer steps before the checkpoint. The trainer must receive the examples of the remaining steps only."""

    def attach_to(self, trainer: FederatedTrainerMixin, parameters: Mapping[str, nn.Parameter]) -> None:
        """Restore weights and history of a *trainer* that was attached at the global adapter.

        parameters: the adapter's trained ones, as in ``ClientSteps``.
        """
        self._trainer: Any = trainer
        self._parameters = parameters
        self._device = next(iter(parameters.values())).device
        trainer.add_callback(self)  # type: ignore[attr-defined]
        if self._resumed is not None:
            for name, parameter in parameters.items():
                parameter.data.copy_(self._resumed.adapter[name])
            trainer.client_steps.resume(self._resumed.history)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_kwargs: Any) -> None:  # noqa: ARG002
        """Restore optimizer and random states before the first step.

        No earlier: the trainer creates its optimizer late, and draws random numbers when it starts.
        """
        resumed, self._resumed = self._resumed, None
        if resumed is None:
            return
        self._trainer.optimizer.load_state_dict(resumed.optimizer)
        if resumed.scaler is not None:
            self._trainer.accelerator.scaler.load_state_dict(resumed.scaler)
        if self._group.rank < len(resumed.randomness):  # more ranks may resume than saved
            _restore_randomness(resumed.randomness[self._group.rank], self._device)

    def on_step_end(self, args: Any, state: Any, control: Any, **_kwargs: Any) -> None:  # noqa: ARG002
        """Save a checkpoint if one is due. If the disk is full, training continues without it."""
        done = self._trainer.history.done
        if self._every == 0 or done % self._every != 0:
            return
        randomness = [_unpacked(each) for each in self._group.gathered(_packed(_randomness(self._device)))]
        if self._group.rank > 0:
            return
        try:
            save(self._path, self.identity, self._checkpoint(randomness))
        except OSError as error:
            log.warning("no checkpoint after step %d: %s; training continues", done, error)
        else:
            crash_points.reach("child: checkpoint written")

    def _checkpoint(self, randomness: list[dict[str, Any]]) -> Checkpoint:
        scaler = self._trainer.accelerator.scaler
        return Checkpoint(
            history=self._trainer.history,
            adapter={name: parameter.detach() for name, parameter in self._parameters.items()},
            optimizer=self._trainer.optimizer.state_dict(),
            scaler=scaler.state_dict() if scaler is not None else None,
            randomness=randomness,
        )


def _randomness(device: torch.device) -> dict[str, Any]:
    """The states of all generators, as tensors and plain values, which ``torch.load(weights_only=True)`` accepts."""
    numpy_state: Any = np.random.get_state(legacy=False)
    key = numpy_state["state"]["key"].tolist()
    return {
        "python": random.getstate(),
        "numpy": numpy_state | {"state": numpy_state["state"] | {"key": key}},
        "torch": torch.get_rng_state(),
        "device": None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(),
    }


def _packed(states: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    torch.save(states, content)
    return content.getvalue()


def _unpacked(content: bytes) -> dict[str, Any]:
    states: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    return states


def _restore_randomness(states: dict[str, Any], device: torch.device) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["device"] is not None:
        torch.get_device_module(device).set_rng_state(states["device"])
