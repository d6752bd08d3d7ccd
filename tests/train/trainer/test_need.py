"""The memory that a training needs: counted, estimated, and what is chosen by it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from agent.train.process.memory import free_bytes  # noqa: E402
from agent.train.trainer.need import Choice, Need, choose, saved_bytes  # noqa: E402

pytestmark = pytest.mark.train

NEED = Need(per_token=1000, recomputed=100, per_scored=0)


def chosen(*lengths: int, free: int | None, batch_size: int = 4, **given: Any) -> Choice:
    n_tokens = np.array(lengths)
    asked = {"batch_size": batch_size, "most": 16, "free": free, "on_cpu": False} | given
    return choose(NEED, n_tokens, n_tokens // 2, **asked)


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (None, (4, False)),
        (1_000_000, (4, False)),
        (400_000, (2, False)),  # four fifths of it are used: 320 of 400 tokens
        (200_000, (1, False)),
        (100_000, (4, True)),
        (25_000, (2, True)),
        (13_000, (1, True)),
    ],
)
def test_the_largest_micro_batch_that_fits(free: int | None, expected: tuple[int, bool]) -> None:
    choice = chosen(100, 100, 100, 100, free=free)
    assert (choice.micro_batch, choice.recomputes) == expected
    assert choice.fits
    assert choice.bytes == 100 * choice.micro_batch * (100 if choice.recomputes else 1000)


def test_the_micro_batch_that_needs_most_decides() -> None:
    assert chosen(10, 10, 10, 10, 200, 10, 10, 10, free=200_000).recomputes
    assert chosen(10, 10, 10, 10, 100, 10, 10, 10, free=200_000).micro_batch == 4


def test_padding_counts() -> None:
    assert chosen(10, 10, 10, 100, free=200_000).micro_batch == 4
    assert chosen(10, 10, 10, 100, free=300_000, padded=True).micro_batch == 2


def test_what_does_not_fit_at_all_is_said() -> None:
    choice = chosen(100, free=1000, batch_size=1)
    assert (choice.fits, choice.bytes) == (False, 100 * 100)
    cannot = chosen(100, free=100_000, batch_size=1, can_recompute=False)
    assert (cannot.fits, cannot.recomputes, cannot.bytes) == (False, False, 100 * 1000)


def test_limits_of_the_owner_and_of_the_processor() -> None:
    assert chosen(*[10] * 12, free=None, batch_size=12, most=5).micro_batch == 4
    assert chosen(*[100] * 16, free=None, batch_size=16, on_cpu=True).micro_batch == 4  # 400 tokens
    assert chosen(5000, free=None, batch_size=1, on_cpu=True).micro_batch == 1
    assert chosen(*[1000] * 4, free=None, on_cpu=True).micro_batch == 2  # some losses need two rows
    assert chosen(*[10] * 4, free=None, recomputes=True).recomputes


def test_supervised_tokens_need_room_for_their_logits() -> None:
    need = Need(per_token=0, recomputed=0, per_scored=1000)
    given = {"batch_size": 2, "most": 2, "free": 100_000, "on_cpu": False}
    assert choose(need, np.array([60, 60]), np.array([60, 60]), **given).micro_batch == 1
    assert choose(need, np.array([60, 60]), np.array([1, 60]), **given).micro_batch == 2


def test_what_a_backward_pass_needs_is_counted_without_the_weights_and_once() -> None:
    layer = torch.nn.Linear(10, 20, bias=False)
    x = torch.ones(7, 10, requires_grad=True)
    with saved_bytes(layer) as found:
        y = layer(x)  # keeps x, and the weight, which does not count
        (y * y).sum()  # keeps y, twice
    assert found == [7 * 10 * 4 + 7 * 20 * 4]


def test_layers_that_compute_again_need_their_inputs_and_one_layer_at_a_time() -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=10, hidden_size=64, intermediate_size=64))
    assert Need.of(model, per_token=1_000_000).recomputed == 10 * 64 * 4 + 200_000
    assert Need.of(model, per_token=1000).recomputed == 1000


def test_the_free_memory_of_this_machine_is_known() -> None:
    free = free_bytes(torch.device("cpu"))
    if Path("/proc/meminfo").exists():
        assert free is not None
        assert 1 << 20 < free < 1 << 50
