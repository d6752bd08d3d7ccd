"""An adapted layer in one pass gives the output and the gradients of PEFT's own."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from peft import LoraConfig, get_peft_model  # noqa: E402
from peft.tuners.lora.layer import Linear  # noqa: E402
from torch import nn  # noqa: E402

from agent.train.base.fused_lora import fuse  # noqa: E402
from agent.train.base.model import Base  # noqa: E402
from shared.campaign.spec import LoraSection  # noqa: E402
from tests.zoo.families import FAMILIES  # noqa: E402

pytestmark = pytest.mark.train


ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.03}


class Two(nn.Module):
    """Two linear layers, so that the gradient passes through an adapted one."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 40, bias=bias), nn.Linear(40, 8, bias=bias)

    def forward(self, x: Any) -> Any:
        return self.second(torch.tanh(self.first(x)))


def adapted(dtype: Any = torch.float32, *, bias: bool = True, dropout: float = 0.0) -> Any:
    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=12, lora_dropout=dropout, target_modules=["first", "second"])
    model = get_peft_model(Two(bias=bias).to(dtype), config)
    for name, each in model.named_parameters():
        if "lora_" in name:
            each.data.normal_(std=0.1)
    return model


def results(model: Any, x: Any, *, autocast: bool) -> list[Any]:
    """The output, and the gradients of input and factors."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
        output = model(x)
    output.float().square().sum().backward()
    factors = [each for each in model.parameters() if each.requires_grad]
    found = [output.detach(), x.grad, *(each.grad for each in factors)]
    for each in factors:
        each.grad = None
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (1, 1, 24)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_output_and_gradients(bias: bool, shape: tuple[int, ...], dtype: Any) -> None:
    model = adapted(dtype, bias=bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = results(model, x, autocast=dtype is torch.bfloat16)
    fuse(model)
    actual = results(model, x, autocast=dtype is torch.bfloat16)
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        largest = float(other.abs().max())
        assert float((one - other).abs().max()) <= ROUNDING[dtype] * largest


def test_frozen_factors_get_no_gradient() -> None:
    model = adapted()
    fuse(model)
    for name, each in model.named_parameters():
        each.requires_grad_("lora_B" in name)
    model(torch.ones(3, 24)).sum().backward()
    assert {name for name, each in model.named_parameters() if each.grad is not None} == {
        name for name, _ in model.named_parameters() if "lora_B" in name
    }


def is_fused(model: Any) -> bool:
    return any("forward" in vars(each) for each in model.modules() if isinstance(each, Linear))


def test_what_another_computation_needs_is_left_to_peft() -> None:
    with_dropout = adapted(dropout=0.1)
    fuse(with_dropout)
    assert not is_fused(with_dropout)

    model, x = adapted(), torch.ones(3, 24)
    plain = model.base_model.model
    fuse(model)
    adapted_output = model(x)
    with model.disable_adapter():
        torch.testing.assert_close(model(x), Two.forward(plain, x))
        assert not torch.allclose(model(x), adapted_output)
    model.merge_adapter()
    torch.testing.assert_close(model(x), adapted_output)
    model.unmerge_adapter()
    torch.testing.assert_close(model(x), adapted_output)
    model.add_adapter("other", LoraConfig(r=4, target_modules=["first"]))
    model.set_adapter("other")
    assert not torch.allclose(model(x), adapted_output)


def test_a_base_s_layers_are_fused_and_given_back(tmp_path: Path) -> None:
    base = Base(FAMILIES[0].make(tmp_path), torch.device("cpu"), torch.float32, remote_code=False)
    before = {name: type(each) for name, each in base.language_model.named_modules()}
    with base.adapter(LoraSection(rank=4, alpha=8), seed=0) as attached:
        assert all("forward" in vars(each) for each in attached.model.modules() if isinstance(each, Linear))
    assert {name: type(each) for name, each in base.language_model.named_modules()} == before
    assert not is_fused(base.language_model)


def test_small_steps_of_a_young_adapter_survive_in_half_precision() -> None:
    """Each is less than half a step of bfloat16 at the output's size; on average they are all there."""
    model, n = adapted(torch.bfloat16, bias=False), 4000
    layer = model.base_model.model.first
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((n, 24), generator=generator).bfloat16()
    layer.base_layer.weight.data = torch.randn((40, 24), generator=generator).bfloat16()
    layer.lora_A["default"].weight.data = torch.randn((4, 24), generator=generator)
    layer.lora_B["default"].weight.data = torch.full((40, 4), 1e-4)
    exact = x.float() @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T * 3  # (n, 40)

    def share() -> float:
        """What of the adapter's change is in the output: 1 if all of it is, but for noise."""
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            change = layer(x).float() - layer.base_layer(x).float()
        return float((change * exact).sum() / exact.square().sum())

    assert share() < 0.5  # by PEFT
    fuse(model)
    assert share() == pytest.approx(1, abs=0.05)
