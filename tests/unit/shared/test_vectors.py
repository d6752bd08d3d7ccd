"""Vectors over the tensors of adapter files: ranges across tensors, in any layout, from several threads."""

import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shared.adapters.files import AdapterError, AdapterFile, AdapterWriter, Contract, TensorSpec, write_adapter
from shared.adapters.vectors import Layout, VectorReader, VectorWriter

SHAPES = {"a": (3, 4), "b": (5,), "c": (2, 2, 2), "d": (1, 7)}
CONTRACT = Contract.of({name: TensorSpec("F32", shape) for name, shape in SHAPES.items()})
CHOICES = [("a", "b", "c", "d"), ("b", "d"), ("d", "a"), ("c",)]
"""All, some between others, in another order, one."""


def tensors() -> dict[str, np.ndarray]:
    noise = np.random.default_rng(0)
    return {name: noise.standard_normal(shape, dtype=np.float32) for name, shape in SHAPES.items()}


def joined(names: tuple[str, ...]) -> np.ndarray:
    return np.concatenate([tensors()[name].reshape(-1) for name in names])


@pytest.mark.parametrize("names", CHOICES, ids="".join)
def test_every_range_has_the_tensors_values_and_is_read_only(tmp_path: Path, names: tuple[str, ...]) -> None:
    write_adapter(tmp_path / "x", tensors())
    expected = joined(names)
    with AdapterFile(tmp_path / "x") as file:
        vector = VectorReader(file, Layout.of(file, names))
        assert vector.size == expected.size
        for begin in range(expected.size):
            for end in range(begin + 1, expected.size + 1):
                found = vector.read(begin, end)
                np.testing.assert_array_equal(found, expected[begin:end])
                assert not found.flags.writeable
        del found


@pytest.mark.parametrize("names", CHOICES, ids="".join)
@pytest.mark.parametrize("step", [1, 4, 100])
def test_ranges_written_from_several_threads_give_the_same_file(
    tmp_path: Path, names: tuple[str, ...], step: int
) -> None:
    write_adapter(tmp_path / "x", tensors())
    values = joined(names)
    with AdapterWriter(tmp_path / "y", CONTRACT) as writer, VectorWriter(writer, names) as vector:
        for name in SHAPES.keys() - set(names):
            writer.write(name, tensors()[name])
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda begin: vector.write(begin, values[begin : begin + step]), range(0, values.size, step)))
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_values_that_were_forgotten_are_counted(tmp_path: Path) -> None:
    with (
        pytest.raises(AdapterError, match="3 of 5 values were never written"),
        AdapterWriter(tmp_path / "x", Contract.of({"b": CONTRACT.tensors["b"]})) as writer,
        VectorWriter(writer, ["b"]) as vector,
    ):
        vector.write(0, np.zeros(2, dtype=np.float32))


def test_a_tensor_is_written_as_a_whole_or_in_ranges(tmp_path: Path) -> None:
    writer = AdapterWriter(tmp_path / "x", Contract.of({"b": CONTRACT.tensors["b"]}))
    with writer, VectorWriter(writer, ["b"]) as vector:
        with pytest.raises(AdapterError, match="b: is not in the contract, or was written before"):
            writer.write("b", tensors()["b"])
        vector.write(0, tensors()["b"])


def test_tensors_that_are_missing_or_not_float32_are_refused(tmp_path: Path) -> None:
    text = b'{"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}'
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    with AdapterFile(tmp_path / "x") as file:
        with pytest.raises(AdapterError, match="h: dtype F16, expected F32"):
            Layout.of(file, ["h"])
        with pytest.raises(AdapterError, match="i: missing"):
            Layout.of(file, ["i"])


# --- files that are like a contract


def test_a_canonical_file_of_the_contract_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_adapter(tmp_path / "x", tensors())
    with AdapterFile(tmp_path / "x") as parsed, monkeypatch.context() as patch:
        patch.delattr(AdapterFile, "_parse")
        with AdapterFile(tmp_path / "x", like=CONTRACT) as file:
            assert file.tensors is CONTRACT.tensors
            assert (file.tensors, file.offsets) == (parsed.tensors, parsed.offsets)
            np.testing.assert_array_equal(file.read("c"), tensors()["c"])


@pytest.mark.parametrize(
    "spoil",
    [lambda raw: raw[:-1], lambda raw: raw + b"\0", lambda raw: raw.replace(b"[3,4]", b"[3,5]")],
    ids=["short", "long", "another shape"],
)
def test_a_file_that_is_almost_like_the_contract_is_parsed_and_refused(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    write_adapter(tmp_path / "x", tensors())
    (tmp_path / "x").write_bytes(spoil((tmp_path / "x").read_bytes()))
    with pytest.raises(AdapterError):
        AdapterFile(tmp_path / "x", like=CONTRACT)


def test_a_file_of_another_contract_is_read_as_without(tmp_path: Path) -> None:
    write_adapter(tmp_path / "x", {"e": np.ones(32, dtype=np.float32)})
    with AdapterFile(tmp_path / "x", like=CONTRACT) as file:
        assert list(file.tensors) == ["e"]
