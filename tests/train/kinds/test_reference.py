"""The reference of preference optimisation: the same in every round, and computed once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agent.orders.job_files import DELTA_FILE
from agent.train.worker import Worker
from shared.adapters.files import write_adapter
from shared.wire.tasks.leases import Phase
from tests.train.conftest import Lab, first_in_fast, read
from tests.train.kinds.test_preferences import bare, held_out_batch, plain_dpo_loss, plain_log_probs, plain_margins
from tests.train.kinds.test_training import NO_DROPOUT, batches, plain_model, train

pytestmark = pytest.mark.train

DPO = {"training_kind": "dpo", "lora": NO_DROPOUT, "kind_params": {"beta": 0.3}}
INITIAL = DPO | {"kind_params": {"beta": 0.3, "reference": "initial"}}
"""Jobs of such a campaign name adapter 0; the parent passes it to the child as a file."""


def scored(lab: Lab) -> list[int]:
    """The numbers of completions that the latest job scored, one for each start of the scoring phase."""
    return [report.total for report in lab.reports if report.phase == Phase.SCORING_REFERENCE and report.done == 0]


def cached(cache: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    [path] = cache.glob("reference-*.npz")
    with np.load(path) as file:
        log_probs: np.ndarray[Any, np.dtype[np.float64]] = file["log_probs"]
        return log_probs


def after(lab: Lab, adapter: Path, folder: Path, path: Path) -> Path:
    """Write to *path* the adapter plus the delta in a task's folder."""
    start, delta = read(adapter), read(folder / DELTA_FILE)
    write_adapter(path, {name: start[name] + delta[name] for name in start})
    return path


@pytest.mark.parametrize("kind", ["base", "initial"])
def test_round_3_has_the_reference_of_round_1(lab: Lab, tmp_path: Path, kind: str) -> None:
    """Bit for bit, though the global adapter has moved far. No completion is scored twice."""
    first = lab.adapter_0(NO_DROPOUT)
    job, reference = (DPO, None) if kind == "base" else (INITIAL, first)
    adapter, seen = first, []
    for number in (1, 2, 3):
        changes = job | {"round": number, "steps": 8, "learning_rate": 2e-2}
        _, folder = train(lab, adapter, job=changes, reference=reference, cache=tmp_path)
        seen.append((cached(tmp_path), sum(scored(lab))))
        adapter = after(lab, adapter, folder, tmp_path / f"after-{number}.safetensors")
    in_first = ~np.isnan(seen[0][0])
    assert in_first.any()
    np.testing.assert_array_equal(seen[2][0][in_first], seen[0][0][in_first])
    assert sum(n_completions for _, n_completions in seen) == np.count_nonzero(~np.isnan(seen[2][0]))

    base = bare(lab) if kind == "base" else plain_model(lab, NO_DROPOUT, read(first))
    moved = plain_model(lab, NO_DROPOUT, read(adapter))
    batch = batches(lab, steps=1, batch_size=4, round_number=4, kind="dpo")[0]
    expected = plain_dpo_loss(moved, base, batch, 0.3).item()
    assert abs(expected - np.log(2)) > 0.05, "with the round's own adapter as the reference, the loss would be log 2"
    result, _ = train(lab, adapter, job=job | {"round": 4, "steps": 1}, reference=reference, cache=tmp_path)
    assert result.metrics["train_loss_first"] == pytest.approx(expected, abs=1e-4)


def test_the_cached_log_probabilities_match_plain_torch(lab: Lab, tmp_path: Path) -> None:
    train(lab, lab.adapter_0(NO_DROPOUT), job=DPO | {"steps": 1}, cache=tmp_path)
    batch = batches(lab, steps=1, batch_size=4, kind="dpo")[0]
    with torch.no_grad():
        chosen, rejected = plain_log_probs(bare(lab), batch).chunk(2)
    log_probs = cached(tmp_path)
    rows = log_probs[~np.isnan(log_probs).any(axis=1)]
    expected = torch.stack([chosen, rejected], dim=1).double().numpy()
    np.testing.assert_allclose(rows[np.argsort(rows[:, 0])], expected[np.argsort(expected[:, 0])], atol=1e-4)


def test_a_campaign_from_another_ones_adapter_starts_at_a_loss_of_log_2(lab: Lab) -> None:
    """With adapter 0 as the reference, the model has not moved yet; with the base as the reference, it has."""
    adapter = lab.adapter_0(NO_DROPOUT)
    result, _ = train(lab, adapter, job=INITIAL, reference=adapter)
    assert result.metrics["train_loss_first"] == pytest.approx(np.log(2), abs=1e-5)
    held_out = lab.run(lab.work(lab.evaluate_job(adapter, **INITIAL), adapter=adapter, reference=adapter))
    assert held_out.metrics["held_out_loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert held_out.metrics["held_out_margin"] == pytest.approx(0, abs=1e-4)
    result, _ = train(lab, adapter, job=DPO)
    assert abs(result.metrics["train_loss_first"] - np.log(2)) > 1e-3


def test_evaluations_share_the_reference_too(lab: Lab, tmp_path: Path) -> None:
    adapter = lab.adapter_0(NO_DROPOUT)
    work = {"adapter": adapter, "cache": tmp_path}
    first = lab.run(lab.work(lab.evaluate_job(adapter, **DPO), **work))
    assert scored(lab) == [2 * first.metrics["held_out_rows"]]
    again = lab.run(lab.work(lab.evaluate_job(adapter, **DPO), **work))
    assert scored(lab) == []
    assert again == first


@pytest.mark.parametrize("damage", first_in_fast(["cut", b"", b"not a numpy file"]))
def test_a_damaged_file_is_computed_again_with_the_same_bits(lab: Lab, tmp_path: Path, damage: bytes | str) -> None:
    adapter = lab.adapter_0(NO_DROPOUT)
    first, _ = train(lab, adapter, job=DPO, cache=tmp_path)
    [path] = tmp_path.glob("reference-*.npz")
    path.write_bytes(path.read_bytes()[:-40] if isinstance(damage, str) else damage)
    again, _ = train(lab, adapter, job=DPO, cache=tmp_path)
    assert scored(lab)
    assert again.delta == first.delta


def test_the_reference_does_not_depend_on_what_came_before(lab: Lab, tmp_path: Path) -> None:
    """Round 2 from an empty cache has the delta that it has after round 1."""
    adapter = lab.adapter_0(NO_DROPOUT)
    train(lab, adapter, job=DPO, cache=tmp_path / "one")
    warm, _ = train(lab, adapter, job=DPO | {"round": 2}, cache=tmp_path / "one")
    other = Lab(lab.model, lab.data, lab.pairs, tmp_path, Worker(), lab.fingerprint)
    cold, _ = train(other, adapter, job=DPO | {"round": 2}, cache=tmp_path / "two")
    assert cold.delta == warm.delta


def test_another_reference_has_its_own_cache_file(lab: Lab, tmp_path: Path) -> None:
    adapter, other = lab.adapter_0(NO_DROPOUT), lab.adapter_0(NO_DROPOUT, seed=8)
    for reference in (None, adapter, other):
        job = DPO if reference is None else INITIAL
        train(lab, adapter, job=job | {"round": 2}, reference=reference, cache=tmp_path)
        assert scored(lab)
    assert len(list(tmp_path.glob("reference-*.npz"))) == 3


def test_held_out_metrics_against_the_initial_adapter_match_plain_torch(lab: Lab) -> None:
    first, moved = lab.adapter_0(NO_DROPOUT), lab.adapter_0(NO_DROPOUT, seed=8)
    result = lab.run(lab.work(lab.evaluate_job(moved, **INITIAL), adapter=moved, reference=first))
    with torch.no_grad():
        models = (plain_model(lab, NO_DROPOUT, read(path)).eval() for path in (moved, first))
        margins = 0.3 * plain_margins(*models, held_out_batch(lab))
    assert result.metrics["held_out_margin"] == pytest.approx(margins.mean().item(), abs=1e-5)
    assert result.metrics["held_out_accuracy"] == pytest.approx((margins > 0).double().mean().item())
