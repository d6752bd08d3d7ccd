"""Updates that are rounded before they leave: files, residuals, and what the owner sees of them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.holding.norm import update_norm
from agent.orders.job_files import CLIENT_STATE_FILE, DELTA_FILE, EXTRAS_FILE, RESIDUAL_FILE
from shared.adapters.files import AdapterFile, write_adapter
from tests.train.conftest import Lab, first_in_fast, read

pytestmark = pytest.mark.train


def trained(lab: Lab, adapter: Path, wire: str, **given: Path) -> Path:
    """The folder of a training by SCAFFOLD, whose extras are rounded too."""
    fields: dict[str, Any] = {"algorithm": "scaffold", "wire": wire, "learning_rate": 0.05, "max_grad_norm": None}
    work = lab.work(lab.train_job(adapter, **fields), adapter=adapter, **given)
    lab.run(work)
    return work.folder


@pytest.mark.parametrize("wire", first_in_fast(["int8", "bfloat16"]))
def test_what_is_sent_and_the_residual_are_what_was_computed(lab: Lab, wire: str) -> None:
    adapter = lab.adapter_0()
    exact, folder = trained(lab, adapter, "float32"), trained(lab, adapter, wire)
    assert not (exact / RESIDUAL_FILE).exists()
    assert (folder / CLIENT_STATE_FILE).read_bytes() == (exact / CLIENT_STATE_FILE).read_bytes()
    before = {name: values * 0 for name, values in read(folder / RESIDUAL_FILE).items()}
    for _ in range(2):
        residual = read(folder / RESIDUAL_FILE)
        for file, slot in ((DELTA_FILE, "delta/"), (EXTRAS_FILE, "")):
            assert (folder / file).stat().st_size < (exact / file).stat().st_size
            computed, sent = read(exact / file), read(folder / file, like=exact / file)
            assert sent.keys() == computed.keys()
            wholes = {name: values + before[slot + name] for name, values in computed.items()}
            largest = max(np.abs(whole).max() for whole in wholes.values())  # blocks of int8 go across tensors
            for name, whole in wholes.items():
                np.testing.assert_array_equal(residual[slot + name], whole - sent[name])
                assert 0 < np.abs(residual[slot + name]).max() <= 0.5001 * largest / 127
        before, folder = residual, trained(lab, adapter, wire, residual=folder / RESIDUAL_FILE)


def test_the_norm_that_the_owner_sees_is_that_of_what_leaves(lab: Lab) -> None:
    folder = trained(lab, lab.adapter_0(), "int8")
    squares = (float((values.astype(np.float64) ** 2).sum()) for values in read(folder / DELTA_FILE).values())
    assert update_norm(folder / DELTA_FILE) == pytest.approx(math.sqrt(sum(squares)), rel=1e-12)


def test_a_residual_of_another_model_is_left_out(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    adapter = lab.adapter_0()
    write_adapter(lab.folder / "other", {"delta/a.lora_A.weight": np.ones((2, 2), np.float32)})
    folder, without = trained(lab, adapter, "int8", residual=lab.folder / "other"), trained(lab, adapter, "int8")
    assert (folder / DELTA_FILE).read_bytes() == (without / DELTA_FILE).read_bytes()
    assert "is left out" in caplog.text
    with AdapterFile(folder / RESIDUAL_FILE) as file:
        assert {name.partition("/")[0] for name in file.tensors} == {"delta", "delta_c"}
