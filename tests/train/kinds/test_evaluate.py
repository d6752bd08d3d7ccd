"""Held-out loss of fine-tuning, against plain transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from agent.errors import TaskFailed
from agent.train.data.cache import DataCache
from agent.train.trainer.loss import collate
from shared.kinds import find
from shared.wire.tasks.leases import FailureKind, Phase
from tests.train.conftest import LORA, ROWS, Lab, read, write_rows
from tests.train.kinds.test_training import plain_model

pytestmark = pytest.mark.train


def evaluate(lab: Lab, adapter: Path, **changes: Any) -> Any:
    return lab.run(lab.work(lab.evaluate_job(adapter), adapter=adapter, **changes))


def test_the_loss_is_plain_transformers_token_weighted_mean(lab: Lab) -> None:
    adapter = lab.adapter_0()
    result = evaluate(lab, adapter)
    model = plain_model(lab, LORA, read(adapter)).eval()
    tokenizer = AutoTokenizer.from_pretrained(lab.model)
    cache = lab.folder / "cache"
    data = DataCache().prepare(
        lab.source(), "chat", 96, tokenizer, lab.fingerprint, cache, lambda _: None, kind=find("sft")
    )
    held_out = data.held_out.completions
    total, count = 0.0, 0
    with torch.no_grad():
        for index in range(len(held_out)):
            row = collate([held_out.example(index)])
            n = int((row["labels"][:, 1:] != -100).sum())
            total += model(**row).loss.item() * n
            count += n
    assert (result.metrics["held_out_rows"], result.metrics["held_out_tokens"]) == (len(held_out), count)
    assert result.metrics["held_out_loss"] == pytest.approx(total / count, abs=1e-5)


def test_it_is_deterministic_and_independent_of_the_micro_batch(lab: Lab) -> None:
    adapter = lab.adapter_0()
    first, again, wide = (evaluate(lab, adapter, micro_batch=size) for size in (1, 1, 16))
    assert first == again
    assert wide.metrics["held_out_loss"] == pytest.approx(first.metrics["held_out_loss"], abs=1e-5)
    assert wide.metrics["held_out_tokens"] == first.metrics["held_out_tokens"]


def test_progress_counts_rows(lab: Lab) -> None:
    result = evaluate(lab, lab.adapter_0())
    reports = [report for report in lab.reports if report.phase == Phase.EVALUATING]
    assert (reports[-1].done, reports[-1].total) == (result.metrics["held_out_rows"], result.metrics["held_out_rows"])
    assert all(report.loss is None for report in lab.reports)


def test_no_held_out_rows_are_a_failure(lab: Lab, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ROWS[:5])
    with pytest.raises(TaskFailed) as caught:
        evaluate(lab, lab.adapter_0(), data=lab.source(path=path, held_out=0.0))
    assert caught.value.failure.kind == FailureKind.DATA
    assert "held out" in caught.value.failure.message
