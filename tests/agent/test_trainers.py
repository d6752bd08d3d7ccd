"""Which trainer works is the owner's word alone, and is said at the owner's terminal."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agent.child.supervisor import _footing
from agent.configuration.settings import AgentSettings, ComputeSettings
from agent.configuration.trainers import OWN, known_trainer, trainer_identity
from agent.orders.jobs import EvaluateJob, InitJob, PrepareJob, TrainJob
from fedloom.cli.agent.words.policy import policy_in_words
from shared.campaign.spec import CampaignSpec
from tests.support.entry_points import write_out
from tests.support.processes import ROOT
from tests.support.scripted import campaign_body


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of a trainer is installed in this process."""
    monkeypatch.syspath_prepend(write_out(ROOT / "examples" / "trainers", tmp_path))


@pytest.mark.parametrize(
    "asks",
    [
        {"trainer": "loop"},
        {"compute": {"trainer": "loop"}},
        {"training": {"steps": 1, "trainer": "loop"}},
        {"base": {"model": "org/tiny", "trainer": "loop"}},
    ],
)
def test_no_campaign_can_name_a_trainer(asks: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        CampaignSpec.model_validate(campaign_body() | asks)
    assert not any("trainer" in job.model_fields for job in (PrepareJob, InitJob, TrainJob, EvaluateJob))


def test_an_unknown_trainer_is_refused_with_those_that_are_installed(example: None) -> None:
    with pytest.raises(ValueError, match="no trainer 'lop' is installed here; installed are loop, trl"):
        known_trainer("lop")


def test_a_trainer_is_called_by_its_distribution_and_version(example: None) -> None:
    assert trainer_identity("loop") == "loop (fedloom-example-trainers 0.1)"
    assert trainer_identity(OWN) == OWN


def test_a_child_serves_one_trainer_only(example: None) -> None:
    settings = [ComputeSettings(), ComputeSettings(trainer="loop"), ComputeSettings(hub_kernels=True)]
    assert len({_footing(each) for each in settings}) == 3


def test_the_owners_policy_says_who_trains(example: None) -> None:
    def said(**compute: Any) -> str:
        return dict(policy_in_words(AgentSettings(compute=ComputeSettings(**compute))))["trained by"]

    assert said() == "Fedloom's own trainer ([compute] trainer)"
    words = said(trainer="loop", hub_kernels=True)
    assert words.startswith("loop (fedloom-example-trainers 0.1), A TRAINER OF YOUR OWN, whose code sees your rows")
    assert "MAY FETCH COMPILED CODE from the hub" in words
