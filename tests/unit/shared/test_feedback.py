"""Error feedback: what rounding takes from an update goes with the next one, and nothing is lost but one residual."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from agent.holding.norm import update_norm
from shared.adapters.feedback import Outgoing, outgoing
from shared.adapters.files import AdapterError, Array, Contract, TensorSpec, write_adapter
from shared.adapters.scratch import BLOCK_VALUES
from shared.adapters.updates import UpdateFile
from shared.campaign.spec import Wire

ROUNDED: tuple[Wire, ...] = ("bfloat16", "int8")
DELTA, EXTRA = "m.lora_A.weight", "delta_c/m.lora_A.weight"


def drawn(seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((3, 200)).astype(np.float32)


def arrived(folder: Path, sent: Outgoing) -> dict[str, Array]:
    """What the coordinator reads of an update."""
    found = {}
    for tensors in (sent.delta, sent.extras):
        write_adapter(folder / "sent", tensors)
        contract = Contract.of({DELTA if tensors is sent.delta else EXTRA: TensorSpec("F32", drawn(0).shape)})
        with UpdateFile(folder / "sent", like=contract) as file:
            found |= {name: file.read(name).copy() for name in file.tensors}
    return found


def test_float32_is_sent_as_it_is_and_leaves_nothing(tmp_path: Path) -> None:
    write_adapter(tmp_path / "old", {"delta/" + DELTA: drawn(0)})
    sent = outgoing({DELTA: drawn(1)}, {EXTRA: drawn(2)}, "float32", tmp_path / "old")
    assert sent == Outgoing({DELTA: sent.delta[DELTA]}, {EXTRA: sent.extras[EXTRA]}, {})
    assert sent.delta[DELTA].tobytes() == drawn(1).tobytes()


@pytest.mark.parametrize("wire", ROUNDED)
def test_all_that_was_sent_is_all_that_was_computed_but_for_one_residual(tmp_path: Path, wire: Wire) -> None:
    computed: dict[str, Array] = {}
    received: dict[str, Array] = {}
    residual = None
    for number in range(1, 21):
        sent = outgoing({DELTA: drawn(number)}, {EXTRA: drawn(100 + number)}, wire, residual)
        assert sent.residual.keys() == {f"delta/{DELTA}", EXTRA}
        residual = tmp_path / "residual"
        write_adapter(residual, sent.residual)
        for name, values in ({DELTA: drawn(number), EXTRA: drawn(100 + number)}).items():
            computed[name] = computed.get(name, 0) + values.astype(np.float64)
        for name, values in arrived(tmp_path, sent).items():
            received[name] = received.get(name, 0) + values.astype(np.float64)
    for name, slot in ((DELTA, f"delta/{DELTA}"), (EXTRA, EXTRA)):
        np.testing.assert_allclose(received[name] + sent.residual[slot], computed[name], atol=1e-4)
        alone = sum(outgoing({DELTA: drawn(n)}, {}, wire).residual[f"delta/{DELTA}"] for n in range(1, 21))
        assert np.linalg.norm(sent.residual[slot]) < 0.6 * np.linalg.norm(alone), "without feedback errors add up"


@pytest.mark.parametrize("wire", ROUNDED)
def test_the_residual_is_half_a_step_at_most(wire: Wire) -> None:
    sent = outgoing({DELTA: drawn(1)}, {}, wire)
    largest = np.abs(drawn(1)).max()
    step = largest / 127 if wire == "int8" else largest * 2.0**-7
    assert 0 < np.abs(sent.residual[f"delta/{DELTA}"]).max() <= 0.5001 * step


@pytest.mark.parametrize("damage", ["gone", "cut", "another shape", "NaN", "a tensor less"])
def test_a_residual_that_cannot_be_used_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = tmp_path / "residual"
    tensors = {f"delta/{DELTA}": drawn(5), EXTRA: drawn(6)}
    if damage == "another shape":
        tensors[EXTRA] = drawn(6)[:2]
    if damage == "NaN":
        tensors[EXTRA][0, 0] = np.nan
    if damage == "a tensor less":
        del tensors[EXTRA]
    write_adapter(path, tensors)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    if damage == "gone":
        path.unlink()
    with_it = outgoing({DELTA: drawn(1)}, {EXTRA: drawn(2)}, "int8", path)
    without = outgoing({DELTA: drawn(1)}, {EXTRA: drawn(2)}, "int8")
    assert all(with_it.delta[name].tobytes() == values.tobytes() for name, values in without.delta.items())
    assert all(with_it.extras[name].tobytes() == values.tobytes() for name, values in without.extras.items())
    assert "what rounding took from the last counted update cannot be used, and is left out" in caplog.text


@pytest.mark.parametrize("wire", ["float32", *ROUNDED])
def test_an_update_that_is_not_finite_is_not_sent(tmp_path: Path, wire: Wire) -> None:
    wrong = drawn(1)
    wrong[1, 1] = np.inf
    with pytest.raises(AdapterError, match=f"{DELTA}: holds infinity"):
        outgoing({DELTA: wrong}, {}, wire)
    with pytest.raises(AdapterError, match=f"{EXTRA}: holds infinity"):
        outgoing({DELTA: drawn(1)}, {EXTRA: wrong}, wire)


@pytest.mark.parametrize("wire", ROUNDED)
def test_rounding_takes_memory_for_the_residuals_and_a_few_tensors(tmp_path: Path, wire: Wire) -> None:
    tensors = {f"m.{number}.lora_A.weight": np.ones((8, 5000), np.float32) for number in range(24)}
    n_bytes = sum(values.nbytes for values in tensors.values())
    residual = tmp_path / "residual"
    write_adapter(residual, {f"delta/{name}": values for name, values in tensors.items()})
    tracemalloc.start()
    sent = outgoing(tensors, {}, wire, residual)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = sum(values.nbytes for values in (*sent.delta.values(), *sent.residual.values()))
    assert peak < kept + n_bytes + 0.4 * n_bytes, "besides the last residual"


def test_the_norm_of_an_update_takes_a_few_blocks(tmp_path: Path) -> None:
    path = tmp_path / "update"
    write_adapter(path, outgoing({DELTA: np.ones((8, 1 << 18), np.float32)}, {}, "int8").delta)
    tracemalloc.start()
    norm = update_norm(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert norm == pytest.approx(np.sqrt(8 * (1 << 18)), rel=1e-6)
    assert peak < 24 * BLOCK_VALUES, "of a vector of 8 blocks"
