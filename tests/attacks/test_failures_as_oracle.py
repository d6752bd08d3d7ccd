"""A coordinator that learns from failures alone, where the owner reports no loss.

An adapter whose product overflows for one token makes the loss infinite at the first step whose rows hold that
token, prompts included. The failure named the step, and the round could be asked for again with the next token: no
result was ever sent, and rows were searched word by word.

Now a round is begun with one adapter, whether it ends or fails, and the failure does not say where. What is left is
one answer a round: that it failed. The documentation names failures among what leaves with every setting.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.attacked import Attacked, attacked
from tests.attacks.crafted import failing_at
from tests.attacks.hostile import refusal

pytestmark = [pytest.mark.train, pytest.mark.deep]

QUIET = 'accept = "any"\nmax_campaigns = 20\nreport = "none"\n'
LEGIBLE = {
    "lora": {"rank": 1, "alpha": 1e-30, "target_modules": ["v_proj"]},
    "training": {"steps": 5, "batch_size": 12, "learning_rate": 1e-100},
}
"""All rows once a round, at a rate that changes nothing."""


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Attacked]:
    """An agent that reports nothing."""
    with attacked(tmp_path_factory.mktemp("quiet"), model, QUIET) as running:
        yield running


def test_one_failure_a_round_and_it_names_no_step(quiet: Attacked, model: Path, tmp_path: Path) -> None:
    campaign = quiet.campaign("searched", **LEGIBLE).begin()
    assert campaign.train().result is not None
    start = quiet.coordinator.blob(campaign.adapter)
    crafted = {token: quiet.coordinator.serve(failing_at(token, start, model, tmp_path)) for token in ("H", "V", "Z")}
    first = campaign.train(round=2, adapter=crafted["V"])
    assert refusal(first) == "crash: the loss is not finite: the learning rate 1e-100 may be too high"
    assert "the loss is not finite" in quiet.printed()
    for token in ("H", "Z"):
        assert refusal(campaign.train(round=2, adapter=crafted[token])).startswith(
            f"contract-mismatch: adapter.sha256: round 2 was begun with {crafted['V']['sha256'][:12]}…"
        )
    assert refusal(campaign.train(round=2, adapter=crafted["V"])) == refusal(first)
    assert quiet.totals("searched").n_trainings == 2
    assert quiet.coordinator.losses() == []


def test_a_token_that_no_row_has_fails_nothing(quiet: Attacked, model: Path, tmp_path: Path) -> None:
    """So the failure above was of the rows, and of nothing else."""
    campaign = quiet.campaign("control", **LEGIBLE).begin()
    start = quiet.coordinator.blob(campaign.adapter)
    campaign.adapter = quiet.coordinator.serve(failing_at("Z", start, model, tmp_path))
    assert campaign.train(round=2).result is not None


def test_progress_tells_phase_and_step_and_nothing_measured(quiet: Attacked) -> None:
    campaign = quiet.campaign("watched").begin()
    campaign.train()
    said = [each for each in quiet.coordinator.progress if each]
    assert {name for each in said for name, value in each.items() if value} <= {"phase", "done", "total"}
