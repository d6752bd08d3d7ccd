"""Updates' files in float32, bfloat16 and int8: their sizes, what is read of them, and files with wrong claims."""

import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from coordinator.errors import BadUpdate
from coordinator.tasks.checks.update_checks import check_update
from shared.adapters.files import AdapterError, AdapterFile, Array, Contract, Stored, TensorSpec, write_adapter
from shared.adapters.lora import at_rank
from shared.adapters.rounding import BLOCK, from_int8, to_int8
from shared.adapters.updates import UpdateFile, encode, encoded
from shared.campaign.spec import Wire

WIRES: tuple[Wire, ...] = ("float32", "bfloat16", "int8")
LAYER = "base_model.model.model.layers.{}.self_attn.{}_proj.lora_{}.weight"
A, B = (LAYER.format(0, "q", factor) for factor in "AB")


def tensors() -> dict[str, Array]:
    rng = np.random.default_rng(3)
    shapes = {A: (4, 3 * BLOCK // 4), B: (BLOCK + 1, 1), "value": (1,)}
    return {name: rng.standard_normal(shape).astype(np.float32) / 100 for name, shape in shapes.items()}


def in_float32(values: dict[str, Array]) -> Contract:
    return Contract.of({name: TensorSpec("F32", each.shape) for name, each in values.items()})


def write(path: Path, values: dict[str, Array], wire: Wire) -> dict[str, Array]:
    """Write an update. Returns the values that its reader has to get."""
    stored, arrived = encode(values, wire)
    assert write_adapter(path, stored) == encoded(in_float32(values), wire)
    return arrived


@pytest.mark.parametrize("wire", WIRES)
def test_what_is_read_is_what_encode_said(tmp_path: Path, wire: Wire) -> None:
    arrived = write(tmp_path / "u", tensors(), wire)
    contract = encoded(in_float32(tensors()), wire)
    assert (tmp_path / "u").stat().st_size == contract.file_bytes
    with UpdateFile(tmp_path / "u", contract.header_limit, like=in_float32(tensors())) as file:
        contract.check_tensors(file.stored)
        file.check_values()
        in_float32(tensors()).check(file)  # as its readers see it
        assert file.tensors == in_float32(tensors()).tensors
        for name, values in arrived.items():
            assert file.read(name).dtype == np.float32
            assert file.read(name).tobytes() == values.tobytes()
            assert file.read_block(name, 1, 5).tobytes() == values.reshape(-1)[1:5].tobytes()


def test_float32_is_the_file_of_an_adapter(tmp_path: Path) -> None:
    write(tmp_path / "u", tensors(), "float32")
    write_adapter(tmp_path / "a", tensors())
    assert (tmp_path / "u").read_bytes() == (tmp_path / "a").read_bytes()


def test_others_read_the_file_with_safetensors(tmp_path: Path) -> None:
    write(tmp_path / "u", tensors(), "int8")
    theirs = load_file(tmp_path / "u")
    whole, scales = to_int8(np.concatenate([values.reshape(-1) for _, values in sorted(tensors().items())]))
    np.testing.assert_array_equal(theirs["values"], whole)
    np.testing.assert_array_equal(theirs["scales"], scales)


def test_int8_without_its_contract_is_one_tensor(tmp_path: Path) -> None:
    arrived = write(tmp_path / "u", tensors(), "int8")
    with UpdateFile(tmp_path / "u") as file:
        (values,) = (file.read(name) for name in file.tensors)
    assert values.tobytes() == b"".join(each.tobytes() for _, each in sorted(arrived.items()))


def test_int8_is_read_at_the_rank_that_it_has(tmp_path: Path) -> None:
    whole = in_float32({A: np.zeros((4, 300), np.float32), B: np.zeros((70, 4), np.float32)})
    rng = np.random.default_rng(1)
    smaller = {name: rng.standard_normal(s.shape).astype(np.float32) for name, s in at_rank(whole, 3).tensors.items()}
    arrived = write(tmp_path / "u", smaller, "int8")
    with UpdateFile(tmp_path / "u", like=whole) as file:
        assert file.tensors == at_rank(whole, 3).tensors
        assert all(np.array_equal(file.read(name), values) for name, values in arrived.items())
    write_adapter(tmp_path / "u", encode({"x": np.zeros(3 * 370 + 1, np.float32)}, "int8")[0])
    with pytest.raises(AdapterError, match="1111 numbers, which the adapter has at no rank"):
        UpdateFile(tmp_path / "u", like=whole)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("at", [slice(2, 3), (slice(None), slice(1, 60)), (slice(1, 4), slice(50, 300)), slice(None)])
def test_a_view_gives_any_rows_and_columns(tmp_path: Path, wire: Wire, at: slice | tuple[slice, slice]) -> None:
    arrived = write(tmp_path / "u", tensors(), wire)
    with UpdateFile(tmp_path / "u", like=in_float32(tensors())) as file:
        assert np.array_equal(file.view(A)[at], arrived[A][at])
        assert file.view(A).shape == arrived[A].shape


def contract_of_mb(megabytes: float, n_layers: int) -> Contract:
    """An adapter of rank 8 in two tensors for each of 7 modules a layer, of so many megabytes in float32."""
    width = round(megabytes * 1e6 / 4 / (n_layers * 7 * 2 * 8))
    modules = [f"layers.{n}.self_attn.{m}" for n in range(n_layers) for m in "qkvogud"]
    names = [f"base_model.model.model.{module}_proj.lora_{factor}.weight" for module in modules for factor in "AB"]
    return Contract.of({name: TensorSpec("F32", (8, width) if "_A." in name else (width, 8)) for name in names})


@pytest.mark.parametrize(("megabytes", "n_layers"), [(25, 32), (0.3, 4)])
def test_an_update_has_half_and_a_quarter_of_its_bytes(megabytes: float, n_layers: int) -> None:
    contract = contract_of_mb(megabytes, n_layers)
    assert len(contract.tensors) == 14 * n_layers
    ratio = {wire: contract.file_bytes / encoded(contract, wire).file_bytes for wire in WIRES}
    assert ratio["float32"] == 1
    assert ratio["bfloat16"] >= 1.95
    assert ratio["int8"] >= 3.8


def test_what_an_adapter_s_file_refuses_it_refuses_still(tmp_path: Path) -> None:
    write(tmp_path / "u", tensors(), "int8")
    with pytest.raises(AdapterError, match="dtype 'I8', expected one of F32, F16, BF16"):
        AdapterFile(tmp_path / "u")


def test_values_that_are_or_become_infinite_are_not_written() -> None:
    for wire in WIRES:
        for value in (math.nan, math.inf):
            with pytest.raises(AdapterError, match="x: holds"):
                encode({"x": np.array([1, value], np.float32)}, wire)
    largest = np.finfo(np.float32).max
    with pytest.raises(AdapterError, match="x: holds infinity"):
        encode({"x": np.array([largest], np.float32)}, "bfloat16")


def problem(path: Path, contract: Contract) -> str:
    """Why the coordinator refuses a file; empty if it does not."""
    try:
        check_update(path, contract)
    except BadUpdate as error:
        return str(error)
    return ""


def test_hostile_files_in_int8_are_refused_in_words(tmp_path: Path) -> None:
    values, scales = to_int8(tensors()[A].reshape(-1))
    contract = encoded(in_float32({A: tensors()[A]}), "int8")
    n = len(scales)

    def refusal(**changes: Stored) -> str:
        tensors = {"values": values, "scales": scales} | changes
        write_adapter(tmp_path / "u", {name: each for name, each in tensors.items() if each.size})
        return problem(tmp_path / "u", contract)

    lowest = values.copy()
    lowest[700] = -128
    assert refusal(values=lowest) == "values: holds -128, and int8 values are from -127 to 127"
    two_tensors = f"an update of 768 numbers in int8 has two tensors: values, I8, [768], and scales, F32, [{n}]"
    assert refusal(scales=np.zeros(0, np.float32)) == two_tensors
    assert refusal(scales=scales[:-1]) == two_tensors, "one block less"
    assert refusal(scales=np.append(scales, scales[:1])) == two_tensors, "one block more"
    assert refusal(scales=values[:n]) == two_tensors, "scales in int8"
    assert refusal(values=values.reshape(4, -1)) == two_tensors, "a matrix"
    assert refusal(other=values) == two_tensors, "a third one"
    for value, reason in ((math.nan, "holds NaN"), (math.inf, "holds infinity"), (-1.0, "holds a scale below 0")):
        wrong = scales.copy()
        wrong[1] = value
        assert refusal(scales=wrong) == f"scales: {reason}"
    wrong[1] = 3e38
    assert refusal(scales=wrong) == "values: holds infinity"
    longer = np.append(values, values[:BLOCK])
    assert refusal(values=longer, scales=np.append(scales, scales[:1])) == "scales: shape [4], expected [3]"
    assert refusal(values=longer[: 768 - 255]) == "values: shape [513], expected [768]"
    no_values = "no tensor values of int8, which an update in int8 has"
    assert refusal(values=np.zeros(0, np.int8), other=values) == no_values
    assert refusal(values=tensors()[A].reshape(-1)) == "values: dtype F32, expected I8"


@pytest.mark.parametrize("wire", WIRES)
def test_a_file_of_another_wire_is_refused(tmp_path: Path, wire: Wire) -> None:
    for other in WIRES:
        if other != wire:
            write(tmp_path / "u", tensors(), other)
            assert problem(tmp_path / "u", encoded(in_float32(tensors()), wire))


def test_reading_a_hostile_file_warns_of_nothing(tmp_path: Path) -> None:
    """The values are looked at; numpy's own warnings would be errors in a strict process."""
    with np.errstate(all="raise"):
        assert np.isinf(from_int8(np.array([127], np.int8), np.array([3e38], np.float32)))
