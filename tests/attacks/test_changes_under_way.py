"""What changes between an owner's yes and the work: the base model, the rows, the settings, the yes itself.

An approval was of nothing, so nothing could differ from it. Now each task stands on what the first preparation
found, the settings are read again before each task and before its result leaves, and the owner's latest word
decides what is sent.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.attacked import DATA, ROWS, Attacked, attacked, lines
from tests.attacks.hostile import refusal
from tests.support.processes import wait_until

pytestmark = [pytest.mark.train, pytest.mark.deep]

LONG = {"training": {"steps": 150, "batch_size": 8}}
"""A training of some seconds."""
OPEN = 'accept = "any"\nmax_campaigns = 20\nmax_epochs = 1000\n'


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Attacked]:
    """An agent with a base model of its own."""
    folder = tmp_path_factory.mktemp("changing")
    with attacked(folder, Path(shutil.copytree(model, folder / "base")), OPEN) as running:
        yield running


@pytest.mark.parametrize("after", ["an evaluation", "a training"])
def test_another_base_model_under_the_same_name_is_refused_once_work_was_done(
    changing: Attacked, after: str, tmp_path: Path
) -> None:
    from tests.support.tiny import make_model

    campaign = changing.campaign(f"base-{after.replace(' ', '-')}").begin()
    done = campaign.train() if after == "a training" else campaign.evaluate(round=0)
    assert done.result is not None
    base, kept = changing.home.parent / "base", changing.home.parent / "kept"
    base.rename(kept)
    try:
        make_model(base, seed=5)
        assert refusal(campaign.prepare()) == (
            "contract-mismatch: fingerprint: the base model here is not the one that this agent worked with before in "
            "this campaign"
        )
        assert refusal(campaign.train(round=2)).startswith("fingerprint: ")
        other = changing.coordinator.do_with(campaign.training(round=3), {"fingerprint": {"weights": "b" * 64}})
        assert refusal(other) == (
            "contract-mismatch: fingerprint.weights: it is not the one that this agent found when it prepared"
        )
    finally:
        shutil.rmtree(base)
        kept.rename(base)


def test_rows_that_were_cut_below_the_floor_train_no_update(changing: Attacked) -> None:
    campaign = changing.campaign("cut").begin()
    path, before = changing.home / "patients.jsonl", len(changing.coordinator.updates())
    try:
        path.write_text(lines(ROWS[:12] * 5))
        said = refusal(campaign.train())
    finally:
        path.write_text(lines(ROWS))
    assert said == (
        "refused-by-policy: refused by this agent's policy: an update would stand on 12 distinct rows, and "
        "policy.min_rows = 40"
    )
    assert len(changing.coordinator.updates()) == before
    assert changing.totals("cut").n_trainings == 1, "booked before it was known"


def test_settings_that_are_narrowed_while_a_task_runs_bind_what_leaves_of_it(changing: Attacked) -> None:
    campaign = changing.campaign("narrowed", **LONG).begin()
    running = changing.coordinator.hand_out(campaign.training())
    _wait_for_steps(changing)
    try:
        changing.write_settings(OPEN + "min_rows = 61\n")
        wait_until(lambda: running.is_over, "the end of the training", 60)
    finally:
        changing.write_settings(OPEN, DATA)
    assert refusal(running).endswith("an update would stand on 60 distinct rows, and policy.min_rows = 61")


def test_a_pause_while_a_task_runs_keeps_its_update(changing: Attacked) -> None:
    campaign = changing.campaign("held", name="held", **LONG).begin()
    running = changing.coordinator.hand_out(campaign.training())
    _wait_for_steps(changing)
    changing.says("pause", "held")
    wait_until(lambda: running.is_over, "the end of the training", 60)
    assert refusal(running) == "paused-by-owner: paused by its owner"
    changing.approves("held")
    assert campaign.train().files["delta"], "it was kept, and goes when the owner lets it"
    assert changing.totals("held").n_trainings == 1


def _wait_for_steps(changing: Attacked) -> None:
    seen = len(changing.printed())
    wait_until(lambda: "training " in changing.printed()[seen:], "the training's first steps", 60)
    time.sleep(0.1)
