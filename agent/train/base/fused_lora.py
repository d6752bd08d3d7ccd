"""An adapted linear layer in one pass: y = x Wᵀ + bias + (α/r · x Aᵀ) Bᵀ.

PEFT computes both products apart, multiplies the wide one by the scale, and adds; the gradient does so again. Here the
scale is applied to the narrow product, and the other is added where the first is written. A layer that PEFT computes in
another way, such as a quantised one or one with dropout, is left to PEFT.

In half precision the sum is rounded once, as one product over the columns of W and B. Rounded apart, the base's product
would stand on the grid of bfloat16, and what a young adapter adds, which is less than half a step of it, would be
rounded away: all of it, in silence.
"""

from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

ADAPTER = "default"
_FULL_BYTES = 4
"""Of a number in float32."""
_ALIGNED = 8
"""Kernels in half precision want a multiple of so many columns."""
_FEW = 32
"""Tokens at which copying a layer's weights costs more than the product."""


class _AdaptedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        """x: (n, in). weight: (out, in), frozen. bias: (out,), frozen. a: (r, in). b: (out, r). Returns (n, out)."""
        narrow = (x @ a.t()).mul_(scale)  # (n, r)
        ctx.save_for_backward(x, weight, a, b, narrow)
        ctx.scale = scale
        if x.dtype.itemsize < _FULL_BYTES:
            rest = -(x.shape[1] + b.shape[1]) % _ALIGNED
            return functional.linear(_beside(x, narrow, rest), _beside(weight, b, rest), bias)
        return functional.linear(x, weight, bias).addmm_(narrow, b.t())

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """grad: (n, out), of the output."""
        x, weight, a, b, narrow = ctx.saved_tensors
        needs_x, _, _, needs_a, needs_b, _ = ctx.needs_input_grad
        of_x = of_a = of_b = None
        if needs_b:
            of_b = grad.t() @ narrow
        if needs_x or needs_a:
            of_narrow = (grad @ b).mul_(ctx.scale)  # (n, r)
            if needs_a:
                of_a = of_narrow.t() @ x
            if needs_x:
                of_x = (grad @ weight).addmm_(of_narrow, a)
        return of_x, None, None, of_a, of_b, None


def _beside(one: Tensor, other: Tensor, rest: int) -> Tensor:
    """The columns of both, and as many zeros: (m, k) and (m, r) give (m, k + r + rest)."""
    return torch.cat((one, other, one.new_zeros((len(one), rest))), dim=1)


def fuse(model: nn.Module) -> None:
    """Compute the adapted linear layers of a PEFT model in one pass, where that gives what PEFT gives.

    PEFT's own computation is used while its adapters are disabled, merged, or others than ``default``, and for the few
    tokens at once of an answer in half precision.
    """
    for module in model.modules():
        if type(module) is Linear and type(module.get_base_layer()) is nn.Linear and _is_plain(module):
            module.forward = partial(_forward, module)


def _is_plain(layer: Linear) -> bool:
    """Whether the layer computes W x + α/r B A x and nothing else."""
    has_dropout = not isinstance(layer.lora_dropout[ADAPTER], nn.Identity)
    return not (has_dropout or layer.lora_variant or layer.lora_bias[ADAPTER] or layer.fan_in_fan_out)


def _forward(layer: Linear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    base = layer.get_base_layer()
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    is_usual = layer.active_adapters == [ADAPTER] and not (layer.disable_adapters or layer.merged or args or kwargs)
    is_answering = dtype.itemsize < _FULL_BYTES and not torch.is_grad_enabled() and x[..., 0].numel() < _FEW
    if not is_usual or is_answering or base.weight.dtype != dtype:
        return type(layer).forward(layer, x, *args, **kwargs)
    a, b = (factor[ADAPTER].weight.to(dtype) for factor in (layer.lora_A, layer.lora_B))
    flat = x.to(dtype).reshape(-1, x.shape[-1])
    adapted: Tensor = _AdaptedLinear.apply(flat, base.weight, base.bias, a, b, layer.scaling[ADAPTER])
    return adapted.view(*x.shape[:-1], adapted.shape[-1])
