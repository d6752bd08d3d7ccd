"""A real base model in bfloat16 on a CPU: after a training in it, its held-out loss is that of float32, nearly."""

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
N_ROWS = 120
Rows = list[dict[str, str]]


def measured(lab: Lab, cpu_dtype: CpuDtype, data: Any, adapter: Path) -> tuple[float, float]:
    """The held-out losses before and after a training in a precision, each evaluated in it."""
    base = BaseSection(model="tiny/llama", cpu_dtype=cpu_dtype)
    common: dict[str, Any] = {"base": base, "lora": LORA}
    sizes = {"steps": 10, "batch_size": 4, "learning_rate": 3e-4}
    work = lab.work(lab.train_job(adapter, **common, **sizes), adapter=adapter, data=data)
    lab.run(work)
    start, change = read(adapter), read(work.folder / DELTA_FILE)
    after = work.folder / "after.safetensors"
    write_adapter(after, {name: np.asarray(values + change[name], np.float32) for name, values in start.items()})
    losses = []
    for path in (adapter, after):
        order = lab.work(lab.evaluate_job(path, **common), adapter=path, data=data)
        losses.append(lab.run(order).metrics["held_out_loss"])
    return losses[0], losses[1]


@pytest.mark.parametrize(
    ("rows_of", "prompt", "completion"),
    [(finance_rows, "prompt", "completion"), (medical_rows, "question", "answer")],
    ids=["finance", "medical"],
)
def test_the_held_out_loss_in_bfloat16_is_within_one_percent_of_float32(
    smollm2: Path, tmp_path: Path, rows_of: Callable[[], Rows], prompt: str, completion: str
) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, rows_of()[:N_ROWS])
    lab = Lab(smollm2, path, path, tmp_path, Worker())
    data = lab.source(prompt=prompt, input=None, completion=completion)
    lab.fingerprint = lab.run(lab.work(lab.prepare_job(lora=LORA), data=data)).fingerprint
    adapter = initial_of(lab, lora=LORA)
    exact, rounded = (measured(lab, dtype, data, adapter) for dtype in ("float32", "bfloat16"))
    assert exact[1] < exact[0]
    assert rounded[1] != exact[1]
    assert rounded == pytest.approx(exact, rel=0.01)
