"""The base model: loaded once, cached, and lent with an adapter attached."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from transformers.pytorch_utils import Conv1D

from agent.errors import TaskFailed
from agent.train.base.quantization import bitsandbytes_config, prepare_for_training
from agent.train.process import memory
from shared.adapters.files import Contract, TensorSpec
from shared.adapters.lora import is_trained
from shared.campaign.spec import LoraSection, Quantization
from shared.wire.jobs import Fingerprint
from shared.wire.leases import FailureKind

log = logging.getLogger(__name__)

_LINEAR = (nn.Linear, Conv1D)
_NOT_QUANTIZED = (
    "the base model cannot be quantised here: too little memory, or a GPU that bitsandbytes does not support; see the "
    "agent's log"
)
_QUANTIZED_ALREADY = (
    "the base model's weight files are quantised already: omit base.quantization, or name the model that they were "
    "made from"
)


def _unusable(message: str) -> TaskFailed:
    return TaskFailed(FailureKind.BASE_MODEL, message)


def load_tokenizer(folder: Path, *, remote_code: bool) -> Any:
    """Load the tokenizer in *folder*. Raises TaskFailed (base-model)."""
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unusable(f"the base model's tokenizer cannot be loaded: {_first_line(error)}") from error


@dataclass(frozen=True)
class AttachedAdapter:
    """A PEFT model, and its adapter's parameters by the names that adapter files use.

    Of a linear layer (in → out) and rank r, ``….lora_A.weight`` is (r, in) and ``….lora_B.weight`` is (out, r).
    """

    model: Any
    parameters: dict[str, nn.Parameter]
    rank: int

    @property
    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that are not frozen."""
        return {name: parameter for name, parameter in self.parameters.items() if parameter.requires_grad}

    @property
    def contract(self) -> Contract:
        """Names and shapes of the adapter's tensors, as float32."""
        return _contract(self.parameters)

    @property
    def update_contract(self) -> Contract:
        """Names and shapes of an update's tensors: the trained ones, as float32."""
        return _contract(self.trained_parameters)

    def tensors(self) -> dict[str, Tensor]:
        """The adapter's current values, copied to the CPU as float32."""
        return {name: parameter.detach().float().cpu().clone() for name, parameter in self.parameters.items()}

    @contextmanager
    def keep_float32(self) -> Iterator[None]:
        """Restore the adapter's float32 values at the end of the block, in which a library may round them."""
        before = {name: parameter.data for name, parameter in self.parameters.items()}
        yield
        for name, parameter in self.parameters.items():
            parameter.data = before[name]


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
        except (OSError, ValueError, KeyError, ImportError, AttributeError, SafetensorError) as error:
            raise _unusable(f"the base model cannot be loaded: {_first_line(error)}") from error
        except RuntimeError as error:
            if quantization is None or memory.is_exhausted(error):
                raise
            # transformers puts the cause into its log only
            raise _unusable(_NOT_QUANTIZED) from error
        if quantization is not None and model.hf_quantizer.pre_quantized:
            raise _unusable(_QUANTIZED_ALREADY)
        if missing := sorted(info["missing_keys"]):
            # transformers would draw them at random, so every agent would have a different base
            raise _unusable(f"the weight files lack {len(missing)} of the model's tensors, {missing[0]} among them")
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

    @property
    def max_length(self) -> int:
        """The model's context length in tokens; ``sys.maxsize`` if its configuration names none."""
        return getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize

    @contextmanager
    def adapter(self, lora: LoraSection, *, seed: int) -> Iterator[AttachedAdapter]:
        """Attach a fresh adapter, drawn from *seed* on the CPU, and remove it at the end of the block.

        The block may do to the model what TRL's trainers do: wrap its forward, change its configuration, tag it, train
        it. All of that is undone. Raises TaskFailed (base-model) if the adapter does not fit the model.
        """
        model = self._model
        _check_targets(model, lora)
        set_seed(seed)
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora.target_modules,
            task_type="CAUSAL_LM",
            bias="none",
        )
        with self.without_adapter():
            peft_model = get_peft_model(model, config)
            try:
                parameters = _adapter_parameters(peft_model)
                for name, parameter in parameters.items():
                    parameter.requires_grad_(is_trained(name, lora))
                yield AttachedAdapter(peft_model, parameters, lora.rank)
            finally:
                peft_model.unload()

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
    ) -> Iterator[Base]:
        """Lend the base model in *folder*, loaded unless it is cached. Raises TaskFailed (base-model).

        After an unexpected error in the block the cache drops the model, because its state is unknown.

        Args:
            folder: the model's files.
            fingerprint: their digests; another fingerprint is another model.
            device: where the weights are held.
            dtype: see ``Base``.
            quantization: how the linear layers' weights are quantised, or None.
            remote_code: whether code that comes with the model may run.
            on_load: called before a load, which takes a while.
        """
        key = (folder, fingerprint, device, dtype, quantization, remote_code)
        if self._base is None or self._key != key:
            on_load()
            self._base = None  # first, so that memory never holds two models
            self._base = Base(folder, device, dtype, quantization=quantization, remote_code=remote_code)
            self._key = key
        try:
            yield self._base
        except TaskFailed:
            raise
        except BaseException:
            self._base = None
            raise

    def release(self) -> None:
        """Drop the model, so that its memory is free."""
        self._base = None


def _contract(parameters: Mapping[str, nn.Parameter]) -> Contract:
    return Contract.of({name: TensorSpec("F32", tuple(parameter.shape)) for name, parameter in parameters.items()})


def _adapter_parameters(model: Any) -> dict[str, nn.Parameter]:
    """The trainable parameters, turned to float32, by their names in ``adapter_model.safetensors``, sorted."""
    named = {
        name.replace(".default.", ".").removesuffix(".default"): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    saved = get_peft_model_state_dict(model, save_embedding_layers=False)
    if set(named) != set(saved):
        mismatch = min(set(named) ^ set(saved))
        raise _unusable(f"PEFT saves this model's adapter under other names than it trains, {mismatch} among them")
    for parameter in named.values():
        parameter.data = parameter.data.float()
    return dict(sorted(named.items()))


def _check_targets(model: Any, lora: LoraSection) -> None:
    if isinstance(lora.target_modules, str):
        return
    head = model.get_output_embeddings()
    linear = {name for name, module in model.named_modules() if isinstance(module, _LINEAR) and module is not head}
    absent = [target for target in lora.target_modules if not any(f".{name}".endswith(f".{target}") for name in linear)]
    if absent:
        present = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise _unusable(f"target_modules: this model has no linear module {', '.join(absent)}; it has {present}")


def _first_line(error: BaseException) -> str:
    with contextlib.suppress(IndexError):
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return type(error).__name__
