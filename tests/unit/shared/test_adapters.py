"""Adapter files: writing, reading back, and the errors for invalid files."""

import itertools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from shared.adapters.files import (
    AdapterError,
    AdapterFile,
    AdapterWriter,
    Array,
    Contract,
    TensorSpec,
    check_finite,
    slot_name,
    write_adapter,
)
from shared.digest import sha256_file
from tests.support.suite.tiers import deep


def tensors() -> dict[str, Array]:
    rng = np.random.default_rng(7)
    return {
        "layers.10.q_proj.lora_A.weight": rng.standard_normal((4, 16), dtype=np.float32),
        "layers.10.q_proj.lora_B.weight": np.zeros((16, 4), dtype=np.float32),
        "layers.2.q_proj.lora_A.weight": rng.standard_normal((4, 16), dtype=np.float32),
        "scale": np.array(0.5, dtype=np.float32),
    }


def raw_file(path: Path, header: Any, data: bytes = b"", *, claims: int | None = None) -> Path:
    """Write a file with any header. claims: the length it claims for the header; None is the true one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if claims is None else claims) + text + data)
    return path


def entry(begin: int, end: int, shape: Any = None, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def refusal(path: Path) -> AdapterError:
    with pytest.raises(AdapterError) as caught:
        AdapterFile(path)
    return caught.value


# --- writing and reading back


def test_round_trip_gives_the_same_values(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", tensors())
    with AdapterFile(tmp_path / "a") as file:
        assert list(file.tensors) == sorted(tensors())
        for name, values in tensors().items():
            assert file.read(name).dtype == np.float32
            np.testing.assert_array_equal(file.read(name), values)


def test_equal_adapters_have_equal_digests_whatever_the_insertion_order(tmp_path: Path) -> None:
    digests = set()
    for number, order in enumerate(itertools.permutations(tensors())):
        write_adapter(tmp_path / str(number), {name: tensors()[name] for name in order})
        digests.add(sha256_file(tmp_path / str(number)))
    assert len(digests) == 1


def test_writing_in_another_order_gives_the_same_bytes(tmp_path: Path) -> None:
    contract = write_adapter(tmp_path / "a", tensors())
    with AdapterWriter(tmp_path / "b", contract) as writer:
        for name in reversed(list(contract.tensors)):
            writer.write(name, tensors()[name])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_memory_layout_and_dtype_of_what_is_written_do_not_matter(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_adapter(tmp_path / "a", {"w": values})
    write_adapter(tmp_path / "b", {"w": np.asfortranarray(values)})
    with AdapterWriter(tmp_path / "c", Contract.of({"w": TensorSpec("F32", (3, 4))})) as writer:
        writer.write("w", values.astype(np.float64))
    assert sha256_file(tmp_path / "a") == sha256_file(tmp_path / "b") == sha256_file(tmp_path / "c")


def test_the_safetensors_library_reads_the_same_values(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a.safetensors", tensors())
    theirs = load_file(tmp_path / "a.safetensors")
    assert set(theirs) == set(tensors())
    for name, values in tensors().items():
        np.testing.assert_array_equal(theirs[name], values)


def test_a_file_of_the_safetensors_library_is_read_with_its_metadata(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "a", metadata={"format": "pt", "who": "peft"})
    with AdapterFile(tmp_path / "a") as file:
        assert "__metadata__" not in file.tensors
        for name, values in tensors().items():
            np.testing.assert_array_equal(file.read(name), values)


def test_file_bytes_is_exact_and_data_is_aligned(tmp_path: Path) -> None:
    contract = write_adapter(tmp_path / "a", tensors())
    assert contract.file_bytes == (tmp_path / "a").stat().st_size
    (header_bytes,) = struct.unpack("<Q", (tmp_path / "a").read_bytes()[:8])
    assert header_bytes % 8 == 0


def test_float16_and_bfloat16_are_read_as_float32(tmp_path: Path) -> None:
    halves = np.array([1.5, -2.0, 65504.0], dtype="<f2")
    brains = np.array([0x3FC0, 0xC000, 0x7F7F], dtype="<u2")  # 1.5, -2 and the largest bfloat16
    header = {"a": entry(0, 6, [3], "F16"), "b": entry(6, 12, [3, 1], "BF16")}
    raw_file(tmp_path / "a", header, halves.tobytes() + brains.tobytes())
    with AdapterFile(tmp_path / "a") as file:
        np.testing.assert_array_equal(file.read("a"), np.float32([1.5, -2.0, 65504.0]))
        np.testing.assert_array_equal(file.read("b"), np.float32([[1.5], [-2.0], [3.3895314e38]]))
        assert file.read("b").dtype == np.float32


def test_a_view_is_read_only_and_outlives_the_file(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", tensors())
    with AdapterFile(tmp_path / "a") as file:
        view = file.read("layers.2.q_proj.lora_A.weight")
        assert not view.flags.writeable
    np.testing.assert_array_equal(view, tensors()["layers.2.q_proj.lora_A.weight"])


def test_writer_refuses_tensors_outside_the_contract(tmp_path: Path) -> None:
    values = np.ones(2, dtype=np.float32)
    with AdapterWriter(tmp_path / "a", Contract.of({"w": TensorSpec("F32", (2,))})) as writer:
        with pytest.raises(AdapterError, match="u: is not in the contract"):
            writer.write("u", values)
        writer.write("w", values)
        with pytest.raises(AdapterError, match="w: is not in the contract, or was written before"):
            writer.write("w", values)


def test_writer_refuses_another_shape_and_another_dtype(tmp_path: Path) -> None:
    writer = AdapterWriter(tmp_path / "a", Contract.of({"v": TensorSpec("F32", (1,))}))
    with writer, pytest.raises(AdapterError, match=r"v: shape \[2\], expected \[1\]"):
        writer.write("v", np.ones(2, dtype=np.float32))
    with pytest.raises(AdapterError, match="written in F32"):
        AdapterWriter(tmp_path / "a", Contract.of({"w": TensorSpec("F16", (2,))}))


def test_writer_says_which_tensor_was_forgotten(tmp_path: Path) -> None:
    with (
        pytest.raises(AdapterError, match="v: was never written"),
        AdapterWriter(tmp_path / "a", Contract.of({"v": TensorSpec("F32", (1,))})),
    ):
        pass


# --- files with wrong claims


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100, -1, -4])
def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path, size: int) -> None:
    write_adapter(tmp_path / "a", tensors())
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "b").write_bytes(whole[:size])
    refusal(tmp_path / "b")


def test_a_truncated_file_names_the_tensor_that_is_cut(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", {"v": np.ones(4, dtype=np.float32), "w": np.ones(4, dtype=np.float32)})
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-3])
    error = refusal(tmp_path / "a")
    assert error.tensor == "w"
    assert "ends 3 bytes before" in error.reason


def test_bytes_after_the_last_tensor_are_refused(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", tensors())
    with (tmp_path / "a").open("ab") as file:
        file.write(b"smuggled")
    assert "8 bytes follow the last tensor" in refusal(tmp_path / "a").reason


@pytest.mark.parametrize("claims", [1000, 1 << 30, 1 << 62, (1 << 64) - 1])
def test_a_header_that_claims_more_than_the_file_has_is_refused(tmp_path: Path, claims: int) -> None:
    assert f"claims {claims} bytes" in refusal(raw_file(tmp_path / "a", {}, b"", claims=claims)).reason


def test_a_header_that_claims_less_than_it_has_is_refused(tmp_path: Path) -> None:
    header = {"w": entry(0, 4)}
    refusal(raw_file(tmp_path / "a", header, b"\0" * 4, claims=5))


LIES: list[tuple[str, Any, int, str]] = [
    ("overlap", {"v": entry(0, 8), "w": entry(4, 12)}, 12, "overlaps"),
    ("the same bytes twice", {"v": entry(0, 8), "w": entry(0, 8)}, 8, "overlaps"),
    ("hole", {"v": entry(0, 4), "w": entry(8, 12)}, 12, "hole"),
    ("hole at the start", {"w": entry(4, 8)}, 8, "hole"),
    ("beyond the end", {"w": entry(0, 400)}, 4, "ends 396 bytes before"),
    ("end before begin", {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, 4, "hole"),
    ("shape larger than its data", {"w": entry(0, 4, [2])}, 4, "needs 8"),
    ("shape smaller than its data", {"w": entry(0, 8, [1])}, 8, "needs 4"),
    ("huge shape", {"w": entry(0, 4, [(1 << 47), (1 << 47)])}, 4, "needs"),
    ("huge number", {"w": entry(0, 4, [1 << 60])}, 4, "whole numbers"),
    ("number with thousands of digits", b'{"w":{"dtype":"F32","shape":[' + b"9" * 5000 + b"]}}", 4, "JSON"),
    ("negative shape", {"w": entry(0, 4, [-1])}, 4, "negative"),
    ("negative offsets", {"w": entry(-4, 0)}, 4, "negative"),
    ("fractional shape", {"w": entry(0, 4, [1.0])}, 4, "whole numbers"),
    ("true as a number", {"w": entry(0, 4, [True])}, 4, "whole numbers"),
    ("NaN in the shape", {"w": entry(0, 4, [float("nan")])}, 4, "whole numbers"),
    ("shape no list", {"w": entry(0, 4, "1")}, 4, "lists"),
    ("three offsets", {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, 4, "data_offsets"),
    ("no value", {"w": entry(0, 0, [0, 1 << 47, 1 << 47])}, 0, "no zero"),
    ("more dimensions than numpy has", {"w": entry(0, 4, [1] * 70)}, 4, "dimensions"),
    ("integers", {"w": entry(0, 4, dtype="I32")}, 4, "dtype 'I32', expected one of F32, F16, BF16"),
    ("double", {"w": entry(0, 8, [1], dtype="F64")}, 8, "dtype 'F64'"),
    ("dtype no text", {"w": entry(0, 4, dtype=["F32"])}, 4, "dtype"),
    ("entry no object", {"w": [1]}, 4, "needs dtype, shape and data_offsets"),
    ("field missing", {"w": {"dtype": "F32", "shape": [1]}}, 4, "needs dtype"),
    ("unknown field", {"w": {**entry(0, 4), "code": "import os"}}, 4, "nothing else"),
    ("list", [entry(0, 4)], 4, "not a JSON object"),
    ("text", b'"w"', 0, "not a JSON object"),
    ("not JSON", b"GET / HTTP/1.1", 0, "not JSON"),
    ("nothing", b"", 0, "not JSON"),
    ("not UTF-8", b'{"\xff": 1}', 0, "not JSON in UTF-8"),
    ("UTF-16", '{"w": 1}'.encode("utf-16"), 0, "not JSON in UTF-8"),
    ("too deep", b"[" * 100_000, 0, "not JSON"),
    ("tensor twice", b'{"w":%s,"w":%s}' % ((json.dumps(entry(0, 4)).encode(),) * 2), 4, "twice"),
    ("field twice", b'{"w":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4, "twice"),
    ("half a surrogate in a name", b'{"\\ud800":%s}' % json.dumps(entry(0, 4)).encode(), 4, "cannot be printed"),
    ("terminal escape in a name", b'{"\\u001b[2J":%s}' % json.dumps(entry(0, 4)).encode(), 4, "cannot be printed"),
    ("endless name", {"w" * 501: entry(0, 4)}, 4, "longer than 500"),
]


@pytest.mark.parametrize(("header", "data_bytes", "says"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
def test_a_header_that_lies_is_refused(tmp_path: Path, header: Any, data_bytes: int, says: str) -> None:
    error = refusal(raw_file(tmp_path / "a", header, b"\0" * data_bytes))
    assert says in error.reason
    str(error).encode()  # it goes into a JSON reply


def test_an_oversized_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write(struct.pack("<Q", (16 << 20) + 1))
        file.truncate((16 << 20) + 100)
    assert "at most 16777216 are read" in refusal(tmp_path / "a").reason


def test_a_refused_file_is_closed(tmp_path: Path) -> None:
    raw_file(tmp_path / "a", b"no")
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(20):
        refusal(tmp_path / "a")
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AdapterFile(tmp_path / "none")


@pytest.mark.parametrize("examples", [80, deep(400)])
def test_corruption_of_a_header_never_raises_anything_but_adapter_error(tmp_path: Path, examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(st.data())
    def is_read_or_refused(data: st.DataObject) -> None:
        corrupt_and_read(tmp_path / "a", data)

    is_read_or_refused()


def corrupt_and_read(path: Path, data: st.DataObject) -> None:
    write_adapter(path, {"v": np.ones((2, 2), dtype=np.float32), "w": np.ones(3, dtype=np.float32)})
    raw = bytearray(path.read_bytes())
    header_end = 8 + struct.unpack("<Q", raw[:8])[0]
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, header_end - 1))
        match data.draw(st.sampled_from(["set", "insert", "delete"])):
            case "set":
                raw[at] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789-.,:[]{}"eEFB')))
            case "insert":
                raw[at:at] = bytes([data.draw(st.integers(0, 255))])
            case _:
                del raw[at]
    path.write_bytes(raw)
    try:
        with AdapterFile(path) as file:
            for name, spec in file.tensors.items():
                assert file.read(name).shape == spec.shape
    except AdapterError as error:
        str(error).encode()


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("F32"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["w", "dtype", "shape", "data_offsets", "__metadata__"]) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
)


@pytest.mark.parametrize("examples", [50, deep(200)])
def test_a_header_of_any_json_is_refused_with_adapter_error(tmp_path: Path, examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(ANY_JSON)
    def is_refused(header: Any) -> None:
        raw_file(tmp_path / "a", header, b"\0" * 8)
        refusal(tmp_path / "a")  # eight bytes of data that belong to no tensor

    is_refused()


# --- finite values


@pytest.mark.parametrize(("value", "says"), [(np.nan, "holds NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_a_value_that_is_not_finite_is_found_with_its_tensor(value: float, says: str) -> None:
    values = np.zeros((3, 5), dtype=np.float32)
    values[2, 4] = value
    with pytest.raises(AdapterError, match=says) as caught:
        check_finite("layers.0.lora_A", values)
    assert caught.value.tensor == "layers.0.lora_A"


def test_large_finite_values_whose_dot_product_overflows_pass() -> None:
    values = np.full(4, np.finfo(np.float32).max, dtype=np.float32)
    check_finite("w", values)
    check_finite("w", -values)
    check_finite("w", values.reshape(2, 2).T)


def test_opposite_infinities_do_not_cancel() -> None:
    with pytest.raises(AdapterError, match="infinity"):
        check_finite("w", np.array([np.inf, -np.inf], dtype=np.float32))


# --- contracts


def contract() -> Contract:
    return Contract.of({"v": TensorSpec("F32", (2,)), "w": TensorSpec("F32", (2, 3))})


def checked(path: Path, **values: Any) -> None:
    write_adapter(path, {name: np.asarray(value, dtype=np.float32) for name, value in values.items()})
    with AdapterFile(path) as file:
        contract().check(file)


def test_a_file_that_keeps_the_contract_passes(tmp_path: Path) -> None:
    checked(tmp_path / "a", v=[1, 2], w=np.ones((2, 3)))


@pytest.mark.parametrize(
    ("values", "tensor", "says"),
    [
        ({"v": [1, 2]}, "w", "missing (1 of 2"),
        ({"v": [1, 2], "w": np.ones((2, 3)), "x": [1]}, "x", "not part of this campaign's adapter"),
        ({"v": [1, 2], "w": np.ones((3, 2))}, "w", "shape [3, 2], expected [2, 3]"),
        ({"v": [[1, 2]], "w": np.ones((2, 3))}, "v", "shape [1, 2], expected [2]"),
        ({"v": [1, np.nan], "w": np.ones((2, 3))}, "v", "holds NaN"),
        ({"v": [1, 2], "w": np.full((2, 3), np.inf)}, "w", "holds infinity"),
    ],
)
def test_each_breach_of_the_contract_is_refused(tmp_path: Path, values: Any, tensor: str, says: str) -> None:
    with pytest.raises(AdapterError) as caught:
        checked(tmp_path / "a", **values)
    assert caught.value.tensor == tensor
    assert says in caught.value.reason


def test_another_dtype_is_refused(tmp_path: Path) -> None:
    header = {"v": entry(0, 4, [2], "F16"), "w": entry(4, 28, [2, 3])}
    raw_file(tmp_path / "a", header, b"\0" * 28)
    with AdapterFile(tmp_path / "a") as file, pytest.raises(AdapterError, match="v: dtype F16, expected F32"):
        contract().check(file)


def test_contract_survives_json_and_is_sorted() -> None:
    unsorted = Contract.of({"b": TensorSpec("F32", (2, 3)), "a": TensorSpec("BF16", ())})
    assert list(unsorted.tensors) == ["a", "b"]
    assert Contract.from_json(unsorted.to_json()) == unsorted


def test_contract_of_a_file_is_the_one_it_was_written_with(tmp_path: Path) -> None:
    written = write_adapter(tmp_path / "a", tensors())
    with AdapterFile(tmp_path / "a") as file:
        assert file.contract == written


def test_slots_hold_every_tensor_once_each_as_float32() -> None:
    half = Contract.of({"w": TensorSpec("F16", (2,))})
    assert half.in_slots(["m", "v"]).tensors == {
        slot_name("m", "w"): TensorSpec("F32", (2,)),
        slot_name("v", "w"): TensorSpec("F32", (2,)),
    }
    assert not half.in_slots([]).tensors
