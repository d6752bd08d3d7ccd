"""What an agent half of a kind of training may return: an example for each row, and the metrics that are declared."""

from typing import Any

import pytest

from agent.errors import TaskFailed
from agent.train import kinds as agent_kinds
from agent.train.kinds import check_measured
from agent.train.kinds.sft import SftTrainer, Training
from shared import kinds
from shared.metrics import Origin
from shared.plugins import Plugins
from shared.wire.tasks.leases import FailureKind
from tests.train.conftest import Lab
from tests.train.kinds.test_training import train

pytestmark = pytest.mark.train

WHOLE = {"held_out_loss": 1.0, "held_out_margin": 0.1, "held_out_accuracy": 0.5}
COUNTS = {"held_out_rows": 3, "held_out_tokens": 30}


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"held_out_accuracy": None}, FailureKind.TRAINING_KIND, "did not return held_out_accuracy"),
        (
            {"held_out_bliss": 1.0},
            FailureKind.TRAINING_KIND,
            "measured 'held_out_bliss', which its METRICS do not have",
        ),
        ({"held_out_accuracy": 1.5}, FailureKind.TRAINING_KIND, "measured held_out_accuracy: 1.5 is above 1"),
        ({"held_out_loss": float("nan")}, FailureKind.CRASH, "the held-out loss is nan"),
    ],
)
def test_an_evaluation_that_is_not_what_was_declared_is_refused_in_words(
    changes: dict[str, float | None], kind: FailureKind, message: str
) -> None:
    values = {name: value for name, value in (WHOLE | COUNTS | changes).items() if value is not None}
    with pytest.raises(TaskFailed, match=message) as caught:
        check_measured(kinds.find("dpo"), Origin.EVALUATION, values)
    assert caught.value.failure.kind is kind
    check_measured(kinds.find("dpo"), Origin.EVALUATION, WHOLE | COUNTS)


def test_a_value_of_a_training_stays_out_of_the_message() -> None:
    with pytest.raises(TaskFailed, match=r"measured reward_accuracy: a value outside of its bounds$"):
        check_measured(kinds.find("dpo"), Origin.TRAINING, {"reward_accuracy": 1.2345})


class Dropping(Training):
    def examples(self, *args: Any) -> list[dict[str, Any]]:
        return super().examples(*args)[1:]


class Telling(SftTrainer):
    def step_metrics(self) -> dict[str, float]:
        return {"secret": 1.0}


class TellingTraining(Training):
    def trainer(self, *args: Any) -> Any:
        trainer = super().trainer(*args)
        trainer.__class__ = Telling
        return trainer


@pytest.mark.parametrize(
    ("training", "message"),
    [(Dropping, "the kind sft made 11 examples of 12 rows"), (TellingTraining, "the kind sft measured 'secret'")],
)
def test_a_training_that_drops_rows_or_reports_more_is_refused_in_words(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, training: type[Training], message: str
) -> None:
    monkeypatch.setattr(agent_kinds, "find", lambda _: training)
    with pytest.raises(TaskFailed, match=message) as caught:
        train(lab, lab.adapter_0())
    assert caught.value.failure.kind is FailureKind.TRAINING_KIND


def test_an_agent_half_that_is_missing_is_named_with_its_entry_point(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Plugins("agent half", package="agent.train.local", group="fedloom.kinds.agent", parts=("Training",))
    monkeypatch.setattr(agent_kinds, "PLUGINS", nothing)
    with pytest.raises(TaskFailed, match=r"\(an entry point sft of fedloom.kinds.agent\), then restart") as caught:
        lab.run(lab.work(lab.prepare_job()))
    assert caught.value.failure.kind is FailureKind.TRAINING_KIND
