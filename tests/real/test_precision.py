"""A real base model in bfloat16 on a CPU: its held-out losses are those of float32 within one percent.

Not after every training: while the loss of short answers falls steeply, trainings in the two precisions drift apart.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.orders.job_files import DELTA_FILE
from agent.train.worker import Worker
from shared.adapters.files import write_adapter
from shared.campaign.spec import BaseSection, CpuDtype, LoraSection
from tests.real.conftest import finance_rows, medical_rows, write_jsonl
from tests.train.conftest import Lab, initial_of, read

pytestmark = pytest.mark.train

LORA = LoraSection(rank=8, alpha=16)
N_ROWS = 40
PRECISIONS: tuple[CpuDtype, ...] = ("float32", "bfloat16")
Rows = list[dict[str, str]]


class RealLab:
    """The real model with rows of one data set. adapter: adapter 0 of its campaign."""

    def __init__(self, model: Path, folder: Path, rows: Rows) -> None:
        path = folder / "rows.jsonl"
        write_jsonl(path, rows[:N_ROWS])
        prompt, completion = rows[0]
        self._lab = lab = Lab(model, path, path, folder, Worker())
        self._data = lab.source(prompt=prompt, input=None, completion=completion)
        lab.fingerprint = lab.run(lab.work(lab.prepare_job(lora=LORA), data=self._data)).fingerprint
        self.adapter = initial_of(lab, lora=LORA)

    def held_out_loss(self, adapter: Path, cpu_dtype: CpuDtype) -> float:
        job = self._lab.evaluate_job(adapter, **_common(cpu_dtype))
        loss: float = self._lab.run(self._lab.work(job, adapter=adapter, data=self._data)).metrics["held_out_loss"]
        return loss

    def trained(self, cpu_dtype: CpuDtype) -> Path:
        """The adapter after a training in a precision."""
        job = self._lab.train_job(self.adapter, **_common(cpu_dtype), steps=4, batch_size=4, learning_rate=3e-4)
        work = self._lab.work(job, adapter=self.adapter, data=self._data)
        self._lab.run(work)
        start, change = read(self.adapter), read(work.folder / DELTA_FILE)
        after = work.folder / "after.safetensors"
        write_adapter(after, {name: np.asarray(values + change[name], np.float32) for name, values in start.items()})
        return after


def _common(cpu_dtype: CpuDtype) -> dict[str, Any]:
    return {"base": BaseSection(model="tiny/llama", cpu_dtype=cpu_dtype), "lora": LORA}


@pytest.mark.parametrize("rows_of", [finance_rows, medical_rows])
def test_the_bases_own_loss_is_within_one_percent(smollm2: Path, tmp_path: Path, rows_of: Callable[[], Rows]) -> None:
    lab = RealLab(smollm2, tmp_path, rows_of())
    exact, rounded = (lab.held_out_loss(lab.adapter, dtype) for dtype in PRECISIONS)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.01)


def test_the_loss_of_long_answers_is_within_one_percent_after_a_training(smollm2: Path, tmp_path: Path) -> None:
    lab = RealLab(smollm2, tmp_path, medical_rows())
    exact, rounded = (lab.held_out_loss(lab.trained(dtype), dtype) for dtype in PRECISIONS)
    assert exact < lab.held_out_loss(lab.adapter, "float32")
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.01)
