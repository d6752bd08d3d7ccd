"""A damaged or hostile adapter file is refused with its reason, or it is a valid adapter of finite values."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import save_file

from coordinator.errors import BadUpdate
from coordinator.tasks.checks.update_checks import check_adapter_zero, check_update
from shared.adapters.files import AdapterFile, write_adapter
from shared.adapters.updates import UpdateFile, encode, encoded
from shared.campaign.spec import LoraSection, Wire
from tests.fuzz import bounds
from tests.fuzz.mutations import mutated
from tests.support.scripted import SHAPES

PIECES = [
    *(b"F32", b"F16", b"BF16", b"I64", b"F4", b'"dtype":', b'"shape":[', b'"data_offsets":[', b'"__metadata__":{}'),
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"-1", b"0", b"1e9", b"18446744073709551616", b"99999999999999999999"),
    *(b"lora_A", b"\\ud800", b"\\u0000", b" ", b"\n", b"null", b"\x00" * 8, b"\xff" * 8, b"\x00\x00\xc0\x7f"),
]


@pytest.fixture
def valid(tmp_path: Path) -> list[bytes]:
    tensors = {name: np.full(shape, "lora_A" in name, dtype=np.float32) for name, shape in SHAPES.items()}
    write_adapter(tmp_path / "ours", tensors)
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    return [(tmp_path / name).read_bytes() for name in ("ours", "theirs")]


@pytest.mark.parametrize("wire", ["float32", "int8"])
@bounds.examples(30)
def test_an_update_is_refused_or_sound(tmp_path: Path, valid: list[bytes], examples: int, wire: Wire) -> None:
    with AdapterFile(tmp_path / "ours") as file:
        contract = file.contract
        rounded = tmp_path / "rounded"
        write_adapter(rounded, encode({name: file.read(name) for name in file.tensors}, wire)[0])

    def holds(content: bytes) -> None:
        path = tmp_path / "update"
        path.write_bytes(content)
        try:
            check_update(path, encoded(contract, wire))
        except BadUpdate as refused:
            str(refused).encode()  # it can be sent
            return
        with UpdateFile(path, like=contract) as file:
            assert file.contract == contract
            assert all(np.isfinite(file.read(name)).all() for name in file.tensors)

    bounds.check(holds, examples, content=mutated([*valid, rounded.read_bytes()], PIECES))


@bounds.examples(30)
def test_adapter_zero_is_refused_or_has_the_rank_of_the_campaign(
    tmp_path: Path, valid: list[bytes], examples: int
) -> None:
    def holds(content: bytes) -> None:
        path = tmp_path / "adapter"
        path.write_bytes(content)
        try:
            contract = check_adapter_zero(path, LoraSection(rank=2))
        except BadUpdate as refused:
            str(refused).encode()
            return
        assert contract.tensors
        for name, spec in contract.tensors.items():
            assert spec.shape[0 if "lora_A" in name else 1] == 2

    bounds.check(holds, examples, content=st.one_of(mutated(valid, PIECES), st.binary(max_size=200)))
