"""An adapter 0 that is not the campaign's is not trained from, not evaluated, and no reference."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from agent.errors import TaskFailed
from agent.orders.job_files import DELTA_FILE
from agent.orders.protocol import Failed
from shared.adapters.files import AdapterFile, write_adapter
from shared.adapters.lora import at_rank
from shared.digest import sha256_file
from shared.wire.tasks.leases import FailureKind
from tests.train.conftest import LORA, Lab, initial_of, read

pytestmark = pytest.mark.train

DPO = {"training_kind": "dpo", "kind_params": {"beta": 0.3, "reference": "initial"}}


def contract_of(path: Path) -> Any:
    with AdapterFile(path) as file:
        return file.contract


def changed(lab: Lab, path: Path, initial: Path, change: Callable[[Lab, dict[str, Any], str], None]) -> Path:
    """A copy of adapter 0 in which one factor of a module is changed. name: of its factor A."""
    tensors = read(initial)
    change(lab, tensors, min(name for name in tensors if "lora_A" in name))
    write_adapter(path, tensors)
    return path


def minus_weights(lab: Lab, tensors: dict[str, Any], name: str) -> None:
    """A is a part of −W, so that the layer's outputs are what the operator chooses."""
    weights = load_file(lab.model / "model.safetensors")
    weight = weights[name.removeprefix("base_model.model.").replace(".lora_A.", ".")]  # (out, in)
    tensors[name] = -weight[: len(tensors[name])].astype(np.float32)


def one_bit(lab: Lab, tensors: dict[str, Any], name: str) -> None:
    tensors[name].view(np.uint32)[-1, -1] ^= 1


def minus_zero(lab: Lab, tensors: dict[str, Any], name: str) -> None:
    tensors[name.replace("lora_A", "lora_B")][0, 0] = -0.0


CRAFTED = [minus_weights, one_bit, minus_zero]


def failure_of(child: Any, work: Any) -> Any:
    answer, _ = child.send(work)
    assert isinstance(answer, Failed), answer
    assert not (work.folder / DELTA_FILE).exists()
    return answer.failure


def test_a_real_child_refuses_a_crafted_start(
    lab: Lab, initial: Path, tmp_path: Path, start_child: Callable[..., Any]
) -> None:
    """In round 1, as adapter 0 in an evaluation, and as a reference in every round. Later adapters are trained ones."""
    child, moved = start_child(), lab.adapter_0()
    for change in CRAFTED:
        crafted = changed(lab, tmp_path / change.__name__, initial, change)
        for work in (
            lab.work(lab.train_job(crafted), adapter=crafted, supplied=False),
            lab.work(lab.train_job(crafted, rank=2), adapter=crafted, supplied=False),
            lab.work(lab.evaluate_job(crafted, round=0), adapter=crafted, supplied=False),
            lab.work(lab.train_job(moved, round=3, **DPO), adapter=moved, reference=crafted, supplied=False),
            lab.work(lab.evaluate_job(moved, round=3, **DPO), adapter=moved, reference=crafted, supplied=False),
        ):
            failure = failure_of(child, work)
            assert failure.kind is FailureKind.CONTRACT_MISMATCH
            assert failure.message.startswith("adapter 0 is not the one that seed 7 gives (base_model.model.")
            assert f"has other values; its SHA-256 is {sha256_file(crafted)})" in failure.message
            assert "nothing was computed from it" in failure.message
    later = changed(lab, tmp_path / "later", initial, one_bit)
    child.result(lab.work(lab.train_job(later, round=2), adapter=later, supplied=False))
    child.result(lab.work(lab.evaluate_job(later, round=1), adapter=later, supplied=False))


def test_the_start_that_the_seed_gives_is_used(lab: Lab, initial: Path) -> None:
    for work in (
        lab.work(lab.train_job(initial), adapter=initial, supplied=False),
        lab.work(lab.train_job(initial, rank=2), adapter=initial, supplied=False),
        lab.work(lab.evaluate_job(initial, round=0), adapter=initial, supplied=False),
        lab.work(lab.train_job(initial, **DPO), adapter=initial, reference=initial, supplied=False),
    ):
        result = lab.run(work)
        assert result.kind == work.job.kind


def another_seed(lab: Lab, initial: Path, path: Path) -> Path:
    return initial_of(lab, seed=8)


def halves(lab: Lab, initial: Path, path: Path) -> Path:
    """The same values where float16 has them, in a file of that dtype."""
    tensors = {name: values.astype(np.float16) for name, values in read(initial).items()}
    return raw_file(path, {name: ("F16", values) for name, values in tensors.items()})


def spaced_header(lab: Lab, initial: Path, path: Path) -> Path:
    return raw_file(path, {name: ("F32", values) for name, values in read(initial).items()}, blanks=64)


def no_factor(lab: Lab, initial: Path, path: Path) -> Path:
    write_adapter(path, {**read(initial), "base_model.model.lm_head.weight": np.ones((2, 2), np.float32)})
    return path


def raw_file(path: Path, tensors: dict[str, tuple[str, Any]], blanks: int = 0) -> Path:
    header, body = {}, b""
    for name, (dtype, values) in tensors.items():
        data = values.tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode() + b" " * blanks
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (another_seed, r"\.lora_A\.weight has other values"),
        (halves, r"has the dtype F16, not F32"),
        (spaced_header, r"its values are right, but its header is not in the canonical form"),
        (no_factor, r"base_model\.model\.lm_head\.weight: has no initial values"),
    ],
)
def test_the_message_says_what_is_not_as_the_seed_gives_it(
    lab: Lab, initial: Path, tmp_path: Path, make: Callable[..., Path], says: str
) -> None:
    path = make(lab, initial, tmp_path / "made")
    with pytest.raises(TaskFailed, match=rf"^adapter 0 is not the one that seed 7 gives \(.*{says}") as caught:
        lab.run(lab.work(lab.train_job(path), adapter=path, supplied=False))
    assert caught.value.failure.kind is FailureKind.CONTRACT_MISMATCH


def test_a_start_of_other_modules_or_another_rank_does_not_fit_the_base(lab: Lab, initial: Path) -> None:
    """Its values are right for its own names and shapes, which are not the campaign's."""
    for lora, says in (
        (LORA.model_copy(update={"target_modules": ["q_proj"]}), "missing"),
        (LORA.at_rank(2), r"shape \[2, \d+\], expected \[4, \d+\]"),
    ):
        path = initial_of(lab, lora=lora)
        assert at_rank(contract_of(path), 4).tensors.keys() <= contract_of(initial).tensors.keys()
        with pytest.raises(TaskFailed, match=rf"^the adapter does not fit this base model: .*{says}"):
            lab.run(lab.work(lab.train_job(path), adapter=path, supplied=False))


# --- a campaign that starts from another campaign's adapter


def test_a_supplied_start_must_have_the_digest_that_the_specification_names(lab: Lab, tmp_path: Path) -> None:
    start = lab.adapter_0()
    other = changed(lab, tmp_path / "other", start, one_bit)
    for work in (
        lab.work(lab.train_job(start), adapter=start),
        lab.work(lab.evaluate_job(start, round=0), adapter=start),
        lab.work(lab.train_job(other, round=2, **DPO), adapter=other, reference=start),
    ):
        lab.run(work)
    named = {"start_sha256": sha256_file(start)}
    says = rf"^adapter 0 is not the one that the campaign starts from \(start_sha256 is {named['start_sha256']}"
    for work in (
        lab.work(lab.train_job(other, **named), adapter=other, supplied=False),
        lab.work(lab.evaluate_job(other, round=0, **named), adapter=other, supplied=False),
        lab.work(lab.train_job(other, round=2, **named, **DPO), adapter=other, reference=other, supplied=False),
    ):
        with pytest.raises(TaskFailed, match=says) as caught:
            lab.run(work)
        assert caught.value.failure.kind is FailureKind.CONTRACT_MISMATCH


def test_what_the_seed_gives_is_no_substitute_for_a_supplied_start(lab: Lab, initial: Path) -> None:
    job = lab.train_job(initial, start_sha256=sha256_file(lab.adapter_0()))
    with pytest.raises(TaskFailed, match="not the one that the campaign starts from"):
        lab.run(lab.work(job, adapter=initial, supplied=False))
