"""Rows go through a model in batches that a CPU gains from, whatever the owner's most rows are."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from agent.train.data.tokens import TokenRows  # noqa: E402
from agent.train.trainer.need import CPU_TOKENS  # noqa: E402
from agent.train.trainer.scoring import _batches  # noqa: E402

pytestmark = pytest.mark.train


def rows_of(*lengths: int) -> TokenRows:
    return TokenRows.of([([1] * length, [place > 0 for place in range(length)]) for length in lengths])


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("micro_batch", [1, 3, 16])
def test_every_row_is_in_one_batch_with_those_of_its_group(together: int, on_cpu: bool, micro_batch: int) -> None:
    lengths = np.random.default_rng(0).integers(2, 2 * CPU_TOKENS, 24)
    batches = [*_batches(rows_of(*lengths), together, micro_batch, on_cpu=on_cpu)]
    assert sorted(np.concatenate(batches)) == list(range(24))
    for batch in batches:
        assert len(batch) <= max(together, micro_batch)
        assert {*batch // together} == {*batch[::together] // together}
        if on_cpu and len(batch) > together:
            assert len(batch) * lengths[batch].max() <= CPU_TOKENS
    longest = [lengths[batch].max() for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_short_rows_go_together_up_to_the_limits() -> None:
    short = rows_of(*[10] * 40)
    assert [len(each) for each in _batches(short, 1, 16, on_cpu=True)] == [16, 16, 8]
    long = rows_of(*[200] * 5)
    assert [len(each) for each in _batches(long, 1, 16, on_cpu=True)] == [2, 2, 1]
    assert [len(each) for each in _batches(long, 1, 16, on_cpu=False)] == [5]
