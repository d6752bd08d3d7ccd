"""Updates' files in float32, bfloat16 and int8: their sizes, what is read of them, and files with wrong claims."""

import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from coordinator.errors import BadUpdate
from coordinator.tasks.checks.update_checks import check_update
from shared.adapters.files import AdapterError, AdapterFile, Array, Contract, Stored, TensorSpec, write_adapter
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
    stored: dict[str, Stored] = {}
    arrived = {}
    for name, each in values.items():
        parts, arrived[name] = encode(name, each, wire)
        stored |= parts
    assert write_adapter(path, stored) == encoded(in_float32(values), wire)
    return arrived


@pytest.mark.parametrize("wire", WIRES)
def test_what_is_read_is_what_encode_said(tmp_path: Path, wire: Wire) -> None:
    arrived = write(tmp_path / "u", tensors(), wire)
    contract = encoded(in_float32(tensors()), wire)
    assert (tmp_path / "u").stat().st_size == contract.file_bytes
    with UpdateFile(tmp_path / "u", contract.header_limit) as file:
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
    for name, values in tensors().items():
        whole, scales = to_int8(values)
        np.testing.assert_array_equal(theirs[name], whole)
        np.testing.assert_array_equal(theirs[f"scales/{name}"], scales)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("at", [slice(2, 3), (slice(None), slice(1, 60)), (slice(1, 4), slice(50, 300)), slice(None)])
def test_a_view_gives_any_rows_and_columns(tmp_path: Path, wire: Wire, at: slice | tuple[slice, slice]) -> None:
    arrived = write(tmp_path / "u", tensors(), wire)
    with UpdateFile(tmp_path / "u") as file:
        assert np.array_equal(file.view(A)[at], arrived[A][at])
        assert file.view(A).shape == arrived[A].shape


def contract_of_mb(megabytes: float, n_layers: int) -> Contract:
    """An adapter of rank 8 in two tensors for each of 7 modules a layer, of so many megabytes in float32."""
    width = round(megabytes * 1e6 / 4 / (n_layers * 7 * 2 * 8))
    modules = [f"layers.{n}.self_attn.{m}" for n in range(n_layers) for m in "qkvogud"]
    names = [f"base_model.model.model.{module}_proj.lora_{factor}.weight" for module in modules for factor in "AB"]
    return Contract.of({name: TensorSpec("F32", (8, width) if "_A." in name else (width, 8)) for name in names})


def test_an_update_of_25_mb_has_half_and_a_quarter_of_its_bytes() -> None:
    contract = contract_of_mb(25, 32)
    assert len(contract.tensors) == 448
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
                encode("x", np.array([1, value], np.float32), wire)
    largest = np.finfo(np.float32).max
    with pytest.raises(AdapterError, match="x: holds infinity"):
        encode("x", np.array([largest], np.float32), "bfloat16")


def problem(path: Path, contract: Contract) -> str:
    """Why the coordinator refuses a file; empty if it does not."""
    try:
        check_update(path, contract)
    except BadUpdate as error:
        return str(error)
    return ""


def test_hostile_files_in_int8_are_refused_in_words(tmp_path: Path) -> None:
    whole, scales = to_int8(tensors()[A])
    contract = encoded(in_float32({A: tensors()[A]}), "int8")
    n = len(scales)

    def refusal(**changes: Stored) -> str:
        files = {A: whole, f"scales/{A}": scales} | {key.replace("A", A, 1): each for key, each in changes.items()}
        write_adapter(tmp_path / "u", {name: each for name, each in files.items() if each.size})
        return problem(tmp_path / "u", contract)

    lowest = whole.copy()
    lowest[1, 7] = -128
    assert refusal(A=lowest) == f"{A}: holds -128, and int8 values are from -127 to 127"
    no_scales = f"{A}: int8 without its scales: scales/{A}, F32, shape [{n}]"
    assert refusal(**{"scales/A": np.zeros(0, np.float32)}) == no_scales
    assert refusal(**{"scales/A": scales[:-1]}) == no_scales, "one block less"
    assert refusal(**{"scales/A": np.append(scales, scales[:1])}) == no_scales, "one block more"
    assert refusal(**{"scales/A": whole[0, :n]}) == no_scales, "scales in int8"
    for value, reason in ((math.nan, "holds NaN"), (math.inf, "holds infinity"), (-1.0, "holds a scale below 0")):
        wrong = scales.copy()
        wrong[1] = value
        assert refusal(**{"scales/A": wrong}) == f"scales/{A}: {reason}"
    wrong[1] = 3e38
    assert refusal(**{"scales/A": wrong}) == f"{A}: holds infinity"
    assert refusal(A=whole.reshape(-1)) == f"{A}: shape [{whole.size}], expected {list(whole.shape)}"
    assert refusal(A=tensors()[A]) == f"{A}: dtype F32, expected I8"
    assert refusal(other=whole).endswith("int8 without its scales: scales/other, F32, shape [3]")
    assert refusal(**{"scales/other": scales}) == "scales/other: not part of this campaign's adapter"


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
