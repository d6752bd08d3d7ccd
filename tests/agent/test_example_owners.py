"""The example settings of owners, each tried: a campaign that fits it, and what it refuses of one that does not."""

import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from agent.acceptance import accepts_by_rule
from agent.configuration.policy import PolicySettings
from agent.configuration.settings import AgentSettings, load_settings
from agent.configuration.template import TEMPLATE
from agent.policy.verdict import refusals_of_file
from agent.record.record import OwnerRecord
from shared.campaign.digest import spec_sha256
from shared.campaign.spec import CampaignSpec

DAY = date(2026, 1, 31)
DIGEST = "2f5a8c1be907430d96c1a4e8b75f02d1c9ab63f85e1470d2ba98c6534fe7d018"
"""In the examples, as a digest."""
EXAMPLES = Path(__file__).parents[2] / "examples" / "owners"
SMOL = {"model": "HuggingFaceTB/SmolLM2-135M-Instruct"}
FITTING: dict[str, dict[str, Any]] = {
    "hospital": {"data": {"name": "notes"}, "selection": {"minimum": 4}, "rounds": 10, "lora": {"rank": 8}},
    "bank": {"data": {"name": "letters"}, "selection": {"minimum": 5}, "rounds": 20, "lora": {"rank": 16}},
    "laboratory": {"data": {"name": "instructions"}, "selection": {"minimum": 2}, "retention": {"updates": 10}},
}
GREEDY = {
    "base": {"model": "someone/else"},
    "kind": "dpo",
    "algorithm": {"name": "scaffold"},
    "lora": {"rank": 512},
    "training": {"steps": 2, "batch_size": 2, "max_length": 16},
    "rounds": 100,
    "selection": {"minimum": 1},
    "retention": {"updates": 100},
}
FLOORS = {"min_rows", "batch_size", "max_length", "rank", "retention_updates", "min_participants"}
REFUSED = {
    "hospital": FLOORS | {"base_models", "kinds", "algorithms", "max_rounds", "notes.kinds", "notes.algorithms"},
    "bank": FLOORS | {"base_models", "algorithms", "letters.campaigns"},
    "laboratory": FLOORS,
}


def spec_of(**changes: Any) -> CampaignSpec:
    usual = {"name": "small", "base": SMOL, "training": {"steps": 20, "batch_size": 16}, "rounds": 10}
    return CampaignSpec.model_validate({**usual, **changes})


def refused(settings: AgentSettings, home: Path, spec: CampaignSpec) -> set[str]:
    record = OwnerRecord(home)
    record.create()
    found = refusals_of_file(settings, record.bookings, spec, spec_sha256(spec, DAY))
    return {each.key.removeprefix("policy.").removeprefix("data.") for each in found}


@pytest.fixture(params=sorted(FITTING))
def example(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_each_example_is_tried_here() -> None:
    assert sorted(FITTING) == sorted(REFUSED) == sorted(path.stem for path in EXAMPLES.iterdir())


def test_a_campaign_that_fits_is_asked_about_or_accepted_by_its_digest(example: str, tmp_path: Path) -> None:
    spec = spec_of(**FITTING[example])
    text = (EXAMPLES / f"{example}.toml").read_text().replace(DIGEST, spec_sha256(spec, DAY))
    (tmp_path / "agent.toml").write_text(text)
    settings = load_settings(tmp_path / "agent.toml")
    assert settings.broken_data == {}
    assert refused(settings, tmp_path, spec) == set()
    by_rule = accepts_by_rule(settings, spec_sha256(spec, DAY), spec.data.name)
    assert by_rule == (settings.policy.accept == "matching")
    if by_rule:
        other = spec_of(**FITTING[example], name="other")
        assert refused(settings, tmp_path, other) == {f"{spec.data.name}.campaigns"}
        assert not accepts_by_rule(settings, spec_sha256(other, DAY), spec.data.name)


def test_a_campaign_that_asks_for_too_much_is_refused_by_each_key(example: str, tmp_path: Path) -> None:
    settings = load_settings(EXAMPLES / f"{example}.toml")
    greedy = spec_of(**GREEDY, data=FITTING[example]["data"])
    assert refused(settings, tmp_path, greedy) == REFUSED[example]


def test_the_settings_that_an_agent_starts_from_show_each_key_of_the_policy_with_its_default() -> None:
    part = TEMPLATE.partition("[policy]\n")[2].partition("\n[")[0]
    lines = [line.removeprefix("# ") for line in part.partition("\n\n")[0].splitlines()]
    shown = tomllib.loads("\n".join(lines))
    examples = {key for line in lines if "default: no limit" in line for key in [line.partition(" = ")[0]]}
    without_limit = {name for name, field in PolicySettings.model_fields.items() if field.default is None}
    assert examples == without_limit
    assert list(shown) == list(PolicySettings.model_fields)
    defaults = PolicySettings().model_dump(mode="json")
    assert {key: shown[key] for key in shown if key not in examples} == {
        key: value for key, value in defaults.items() if key not in examples
    }
