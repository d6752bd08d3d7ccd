"""The base model: loaded, frozen, and lent with an adapter attached."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from agent.train.base.attached import AttachedAdapter, attach
from agent.train.base.on_disk.folder import unused_tensors
from agent.train.base.on_disk.model_files import ignored_names
from agent.train.base.quantization import bitsandbytes_config, prepare_for_training
from agent.train.base.refusals import unusable
from agent.train.process import memory
from shared.campaign.spec import LoraSection, Quantization

log = logging.getLogger(__name__)

_NOT_QUANTIZED = (
    "the base model cannot be quantised here: too little memory, or a GPU that bitsandbytes does not support; see the "
    "agent's log"
)


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
    ) -> None:
        """Load the model. Raises TaskFailed (base-model).

        Args:
            folder: the model's files.
            device: where the weights are held.
            dtype: the dtype of weights that are not quantised, and of all matrix products.
            quantization: how the linear layers' weights are quantised, or None.
            remote_code: whether code that comes with the model may run.
        """
        started = time.perf_counter()
        quantizing: dict[str, Any] = {}
        if quantization is not None:
            # bitsandbytes quantises weights while they are loaded, and such a model must not be moved afterwards
            quantizing["quantization_config"] = bitsandbytes_config(quantization, dtype)
            quantizing["device_map"] = {"": str(device)}
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=remote_code,
                local_files_only=True,
                output_loading_info=True,
                **quantizing,
            )
        except Exception as error:  # damaged files, and code that comes with the model, raise errors of many types
            if memory.is_exhausted(error):
                raise
            if quantization is not None and isinstance(error, RuntimeError):
                raise unusable(_NOT_QUANTIZED) from error  # transformers puts the cause into its log only
            raise unusable("the base model cannot be loaded", error) from error
        if missing := sorted(info["missing_keys"]):
            # transformers would draw them at random, so every agent would have a different base
            raise unusable(f"the weight files lack {len(missing)} of the model's tensors, {missing[0]} among them")
        if unused := unused_tensors(folder, info["unexpected_keys"]):
            message = (
                f"the weight files hold {len(unused)} tensors that the model as configured does not have, {unused[0]} "
                "among them: correct config.json, or save the model anew"
            )
            raise unusable(message)
        self.device, self.dtype = device, dtype
        self._model: Any = model.requires_grad_(False).eval()
        if quantization is None:
            self._model.to(device)
        else:
            prepare_for_training(model, device)
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
        it. All of that is undone. Raises TaskFailed (base-model) if the adapter does not fit the model.

        Args:
            lora: the adapter's shape.
            seed: of what is drawn at random in the block, such as dropout. The adapter's values do not depend on it.
        """
        with self.without_adapter() as model:
            set_seed(seed)
            attached = attach(model, lora)
            try:
                yield attached
            finally:
                attached.model.unload()

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
