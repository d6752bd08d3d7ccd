"""The base model: loaded once, kept, and lent with an adapter on it."""

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
from agent.train import memory
from agent.train.base import quantization as quantizing
from shared.adapters import Contract, TensorSpec
from shared.campaign import LoraSection, Quantization
from shared.lora import is_trained
from shared.wire.jobs import Fingerprint
from shared.wire.leases import FailureKind

log = logging.getLogger(__name__)

_LINEAR = (nn.Linear, Conv1D)
_NOT_QUANTIZED = (
    "the base model cannot be quantised here: too little memory, or a GPU that bitsandbytes does not know; the agent's "
    "own log says more"
)
_QUANTIZED_ALREADY = (
    "the base model's weight files are quantised already: leave base.quantization out, or name the model that they "
    "were made of"
)


def _unusable(message: str) -> TaskFailed:
    return TaskFailed(FailureKind.BASE_MODEL, message)


def load_tokenizer(folder: Path, *, remote_code: bool) -> Any:
    """The tokenizer in *folder*. Raises TaskFailed (base-model)."""
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unusable(f"the base model's tokenizer cannot be loaded: {_first_line(error)}") from error


@dataclass(frozen=True)
class AttachedAdapter:
    """A PEFT model and its adapter's parameters by the names that adapter files use. trained: those not frozen."""

    model: Any
    adapter: dict[str, nn.Parameter]

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        return {name: value for name, value in self.adapter.items() if value.requires_grad}

    @property
    def contract(self) -> Contract:
        """Names and shapes of the adapter's tensors, as float32."""
        return _contract(self.adapter)

    @property
    def update_contract(self) -> Contract:
        """Names and shapes of what an update holds: the trained tensors, as float32."""
        return _contract(self.trained)

    def tensors(self) -> dict[str, Tensor]:
        """The adapter's values now, copied to the CPU as float32."""
        return {name: value.detach().float().cpu().clone() for name, value in self.adapter.items()}

    @contextmanager
    def keep_float32(self) -> Iterator[None]:
        """Give the adapter its float32 values back at the end of the block, in which something rounds them."""
        before = {name: value.data for name, value in self.adapter.items()}
        yield
        for name, value in self.adapter.items():
            value.data = before[name]


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
        """Load the model. dtype: of what is not quantised, and of all products. Raises TaskFailed (base-model)."""
        started = time.perf_counter()
        quantized: dict[str, Any] = {}
        if quantization is not None:
            # bitsandbytes quantises weights as they arrive, and a model that it holds may not be moved
            quantized["quantization_config"] = quantizing.configuration(quantization, dtype)
            quantized["device_map"] = {"": str(device)}
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=remote_code,
                local_files_only=True,
                output_loading_info=True,
                **quantized,
            )
        except (OSError, ValueError, KeyError, ImportError, AttributeError, SafetensorError) as error:
            raise _unusable(f"the base model cannot be loaded: {_first_line(error)}") from error
        except RuntimeError as error:
            if quantization is None or memory.is_exhausted(error):
                raise
            # what it was stands in transformers' log only
            raise _unusable(_NOT_QUANTIZED) from error
        if quantization is not None and model.hf_quantizer.pre_quantized:
            raise _unusable(_QUANTIZED_ALREADY)
        if missing := sorted(info["missing_keys"]):
            # transformers would draw them at random, and each agent would have a base of its own
            raise _unusable(f"the weight files lack {len(missing)} of the model's tensors, {missing[0]} among them")
        self.device, self.dtype = device, dtype
        self._model: Any = model.requires_grad_(False).eval()
        if quantization is None:
            self._model.to(device)
        else:
            quantizing.settle(model, device)
        took = time.perf_counter() - started
        log.info("base model loaded: %s, %s, %s, %.1f s", quantization or "not quantised", dtype, device, took)

    @property
    def half(self) -> torch.dtype | None:
        """The dtype where it is a half precision, which asks for autocast."""
        return None if self.dtype == torch.float32 else self.dtype

    @property
    def language_model(self) -> Any:
        """The model itself, which an adapter wraps."""
        return self._model

    @property
    def max_length(self) -> int:
        """Tokens that the model takes; without bounds where its configuration names none."""
        return getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize

    @contextmanager
    def adapter(self, lora: LoraSection, *, seed: int) -> Iterator[AttachedAdapter]:
        """Lend the model with a fresh adapter, drawn from *seed* on the CPU, and take everything off again.

        A trainer may do to the model what TRL's do: wrap its forward, change its configuration, tag it, train it.
        Raises TaskFailed (base-model) where the adapter does not fit the model.
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
            attached = get_peft_model(model, config)
            try:
                adapter = _named_adapter(attached)
                for name, parameter in adapter.items():
                    parameter.requires_grad_(is_trained(name, lora))
                yield AttachedAdapter(attached, adapter)
            finally:
                attached.unload()

    @contextmanager
    def without_adapter(self) -> Iterator[Any]:
        """Lend the model as it is, and undo what is done to its attributes, its configuration and its dropout."""
        model = self._model
        dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
        things = (model, model.config, model.config.get_text_config(), model.generation_config, *dropouts)
        before = [(thing, dict(vars(thing))) for thing in things if thing is not None]
        try:
            yield model
        finally:
            for thing, attributes in before:
                vars(thing).clear()
                vars(thing).update(attributes)
            model.requires_grad_(False).eval()


class Models:
    """Keeps one base model: the latest."""

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
        """The base model of *folder*, loaded unless it is there. Raises TaskFailed (base-model).

        on_load: called before a load, which takes a while. After an unforeseen error in the block the model is let go
        of, for nobody knows its state.
        """
        key = (folder, fingerprint, device, dtype, quantization, remote_code)
        if self._base is None or self._key != key:
            on_load()
            self._base = None  # first, so that memory never holds two
            self._base = Base(folder, device, dtype, quantization=quantization, remote_code=remote_code)
            self._key = key
        try:
            yield self._base
        except TaskFailed:
            raise
        except BaseException:
            self._base = None
            raise

    def forget(self) -> None:
        """Let go of the model."""
        self._base = None


def _contract(tensors: Mapping[str, nn.Parameter]) -> Contract:
    return Contract.of({name: TensorSpec("F32", tuple(value.shape)) for name, value in tensors.items()})


def _named_adapter(model: Any) -> dict[str, nn.Parameter]:
    """The trainable parameters by their names in ``adapter_model.safetensors``, sorted."""
    named = {
        name.replace(".default.", ".").removesuffix(".default"): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    saved = get_peft_model_state_dict(model, save_embedding_layers=False)
    if set(named) != set(saved):
        odd = min(set(named) ^ set(saved))
        raise _unusable(f"PEFT saves this model's adapter under other names than it trains it, {odd} among them")
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
        there = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise _unusable(f"target_modules: this model has no linear module {', '.join(absent)}; it has {there}")


def _first_line(error: BaseException) -> str:
    with contextlib.suppress(IndexError):
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return type(error).__name__
