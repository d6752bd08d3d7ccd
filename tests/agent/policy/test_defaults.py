"""The policy of an owner who set nothing: an honest small campaign fits, one that is made to learn rows does not."""

from typing import Any

import pytest
from pydantic import ValidationError

from agent.configuration.policy import PolicySettings
from agent.configuration.settings import AgentSettings
from agent.policy.campaign_rules import campaign_refusals
from tests.agent.parts import campaign_spec

HONEST: dict[str, Any] = {
    "training": {"steps": 10, "batch_size": 8, "max_length": 64},
    "selection": {"minimum": 3},
    "rounds": 10,
    "base": {"model": "org/model"},
}
SETTINGS = AgentSettings.model_validate({"models": {"org/model": "/models/it"}})


def keys(**changes: Any) -> list[str]:
    return [each.key for each in campaign_refusals(SETTINGS, campaign_spec(**(HONEST | changes)))]


def test_an_honest_small_campaign_is_not_refused_and_asked_about() -> None:
    assert keys() == []
    assert SETTINGS.policy.accept == "ask"


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"training": {"steps": 4, "batch_size": 8}}, ["min_rows"]),
        ({"training": {"steps": 5, "batch_size": 8}}, []),
        ({"training": {"steps": 10, "batch_size": 7}}, ["batch_size"]),
        ({"training": {"steps": 1, "batch_size": 1}}, ["batch_size", "min_rows"]),
        ({"training": {"steps": 10, "batch_size": 513}}, ["batch_size"]),
        ({"training": {"steps": 10, "batch_size": 8, "max_length": 63}}, ["max_length"]),
        ({"training": {"steps": 10, "batch_size": 8, "max_length": 8193}}, ["max_length"]),
        ({"lora": {"rank": 64}}, []),
        ({"lora": {"rank": 65}}, ["rank"]),
        ({"selection": {"minimum": 2}}, ["min_participants"]),
        ({"selection": {"minimum": 1, "clients_per_round": 1}}, ["min_in_round"]),
        ({"selection": {"minimum": 2, "clients_per_round": 2}}, []),
        ({"retention": {"updates": 1}}, ["retention_updates"]),
        ({"base": {"model": "org/other"}}, ["base_models"]),
        ({"kind": "dpo"}, []),
    ],
)
def test_a_default_refuses_what_is_beyond_it(changes: dict[str, Any], refused: list[str]) -> None:
    assert keys(**changes) == [f"policy.{key}" for key in refused]


@pytest.mark.parametrize(
    "wrong",
    [
        {"accept": "yes"},
        {"min_rows": 0},
        {"min_held_out": 0},
        {"batch_size": [8]},
        {"batch_size": [9, 8]},
        {"max_length": [0, 8]},
        {"rank": 8},
        {"max_epochs": 0},
        {"max_steps": 0},
        {"max_rounds": 0},
        {"max_campaigns": 0},
        {"max_rows_per_task": 0},
        {"min_participants": 0},
        {"min_in_round": 0},
        {"retention_updates": -1},
        {"report": "some"},
        {"report_losses": True},
        {"max_download_bytes": -1},
    ],
)
def test_a_value_that_means_nothing_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PolicySettings.model_validate(wrong)
