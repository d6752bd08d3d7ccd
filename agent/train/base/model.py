"""The base model: loaded, frozen, and lent with an adapter attached."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, set_seed

from agent.train.base.attached import AttachedAdapter, attach
from agent.train.base.loading import PLAIN, Loader, ModelSource
from agent.train.base.on_disk.model_files import ignored_names
from agent.train.base.refusals import unusable
from shared.campaign.spec import LoraSection, Quantization

log = logging.getLogger(__name__)


def load_tokenizer(folder: Path, *, remote_code: bool) -> Any:
    """Load the tokenizer in *folder*. Raises TaskFailed (base-model)."""
    try:
        return AutoTokenizer.from_pretrained(
            folder, trust_remote_code=remote_code, local_files_only=True, **ignored_names(folder)
        )
    except Exception as error:
        raise unusable("the base model's tokenizer cannot be loaded", error) from error


class Base:
    """A loaded base model, frozen."""

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        dtype: torch.dtype,
        *,
        quantization: Quantization | None = None,
        remote_code: bool,
        loader: Loader = PLAIN,
    ) -> None:
        """Load the model. Raises TaskFailed (base-model, trainer).

        Args:
            folder: the model's files.
            device: where the weights are held.
            dtype: the dtype of weights that are not quantised, and of all matrix products.
            quantization: how the linear layers' weights are quantised, or None.
            remote_code: whether code that comes with the model may run.
            loader: loads it, and attaches adapters to it.
        """
        started = time.perf_counter()
        model = loader.load(ModelSource(folder, device, dtype, quantization, remote_code))
        self.device, self.dtype = device, dtype
        self._model: Any = model.requires_grad_(False).eval()
        self._loader = loader
        seconds = time.perf_counter() - started
        log.info("base model loaded: %s, %s, %s, %.1f s", quantization or "not quantised", dtype, device, seconds)

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """The dtype if it is bfloat16 or float16, which needs autocast; None for float32."""
        return None if self.dtype == torch.float32 else self.dtype

    @property
    def language_model(self) -> Any:
        """The bare model, which an adapter wraps."""
        return self._model

    @contextmanager
    def adapter(self, lora: LoraSection, *, seed: int) -> Iterator[AttachedAdapter]:
        """Attach an adapter, and remove it at the end of the block, which must first draw or load its values.

        The block may do to the model what TRL's trainers do: wrap its forward, change its configuration, tag it, train
        it. All of that is undone. Raises TaskFailed (base-model, trainer) if the adapter does not fit the model.

        Args:
            lora: the adapter's shape.
            seed: of what is drawn at random in the block, such as dropout. The adapter's values do not depend on it.
        """
        with self.without_adapter() as model:
            set_seed(seed)
            attached = attach(model, lora, self._loader)
            try:
                yield attached
            finally:
                self._loader.detach(attached.model)

    @contextmanager
    def without_adapter(self) -> Iterator[Any]:
        """Lend the bare model, and undo all changes to its attributes, its configuration and its dropout."""
        model = self._model
        dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
        owners = (model, model.config, model.config.get_text_config(), model.generation_config, *dropouts)
        before = [(owner, dict(vars(owner))) for owner in owners if owner is not None]
        try:
            yield model
        finally:
            for owner, attributes in before:
                vars(owner).clear()
                vars(owner).update(attributes)
            model.requires_grad_(False).eval()
