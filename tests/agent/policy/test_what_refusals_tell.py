"""What a refusal because of data tells the operator: nothing of the owner's other data and other campaigns."""

from typing import Any

import pytest

from agent.configuration.settings import AgentSettings
from agent.policy.data_rules import source_refusals
from shared.campaign.digest import spec_sha256
from tests.agent.parts import CREATED_ON, campaign_spec

OTHERS = ["12" * 16, "0123456789abcdef" * 2, "ab" * 32, "cd" * 32]
DIGEST = spec_sha256(campaign_spec(), CREATED_ON)


def refusals(data: dict[str, Any]) -> list[str]:
    """What is said of a campaign that asks for the data "notes"."""
    settings = AgentSettings.model_validate({"data": data})
    return list(map(str, source_refusals(settings, campaign_spec(), "c1-of-the-operator", DIGEST)))


@pytest.mark.parametrize("campaigns", [[], OTHERS[:1], OTHERS])
def test_campaigns_that_data_is_bound_to_are_not_told_to_another(campaigns: list[str]) -> None:
    [said] = refusals({"notes": {"path": "n.jsonl", "campaigns": campaigns}})
    asked = f"the campaign is c1-of-the-operator with the digest {DIGEST}"
    assert said == f"{asked}, and data.notes.campaigns = a list without it"


@pytest.mark.parametrize("others", [[], ["hiv-patients"], ["hiv-patients", "Notes", "notes2"]])
def test_the_names_of_other_data_are_not_told(others: list[str]) -> None:
    [said] = refusals({name: {"path": f"{name}.jsonl", "campaigns": OTHERS} for name in others})
    remedy = "describe it in a table [data.notes]"
    assert said == f"the campaign's data is notes, and data.notes = no table ({remedy})"


def test_what_the_table_that_is_asked_for_allows_is_told() -> None:
    table = {"path": "n.jsonl", "campaigns": OTHERS, "kinds": ["dpo"], "algorithms": ["ffa*"]}
    said = refusals({"notes": table, "hiv-patients": {"path": "x.jsonl"}})
    assert said[1:] == [
        'the kind of training is sft, and data.notes.kinds = ["dpo"]',
        'the algorithm is fedavg, and data.notes.algorithms = ["ffa*"]',
    ]
    assert not any(other in " ".join(said) for other in (*OTHERS, "hiv"))
