"""What owners' default settings would refuse is said to the operator before the campaign starts."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Run
from tests.support.operator import Operator
from tests.support.scripted import campaign_body

ALLOW = "each owner must first allow the base model tiny"
FITS = {"training": {"steps": 10, "batch_size": 8}, "selection": {"minimum": 3}, "rounds": 5}


def a_file(folder: Path, **changes: Any) -> Path:
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(campaign_body(**{**FITS, **changes})))
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora": {"rank": 128}}, "lora.rank is 128, and policy.rank = [1, 64]; to change: lora.rank"),
        (
            {"training": {"steps": 2, "batch_size": 8}},
            "an update would stand on 16 distinct rows, and policy.min_rows = 40; to change: raise "
            "training.steps or training.batch_size",
        ),
        (
            {"selection": {"minimum": 2}},
            "selection.minimum is 2, so the campaign may start with so few clients, and policy.min_participants = 3; "
            "to change: set selection.minimum to 3 or more",
        ),
        (
            {"retention": {"updates": 4}},
            "retention.updates is 4: the coordinator would keep each update for that long, and "
            "policy.retention_updates = 0; to change: retention.updates",
        ),
        (
            {"training": {"steps": 10, "batch_size": 8, "max_length": 16}},
            "training.max_length is 16, and policy.max_length = [64, 8192]; to change: training.max_length",
        ),
    ],
)
def test_a_check_names_the_key_and_the_field_to_change(
    run: Run, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    ran = run("campaign", "create", a_file(tmp_path, **changes), "--check")
    assert (ran.code, ran.err) == (1, "")
    assert ran.out == f"owners' default settings would refuse small:\n- {said}\n{ALLOW}\n"
    [refusal] = json.loads(run("campaign", "create", a_file(tmp_path, **changes), "--check", "--json").out)["refusals"]
    assert refusal["field"] in said or refusal["field"].partition(".")[0] in changes


def test_a_campaign_that_fits_is_refused_by_nothing_but_its_model_which_each_owner_names(
    run: Run, tmp_path: Path
) -> None:
    ran = run("campaign", "create", a_file(tmp_path), "--check")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"owners' default settings refuse nothing of small; {ALLOW}\n"
    ran = run("campaign", "create", a_file(tmp_path), "--dry-run")
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize("other", ["--dry-run", "--wait"])
def test_a_check_takes_no_option_of_a_start(run: Run, tmp_path: Path, other: str) -> None:
    for changes in ({}, {"lora": {"rank": 128}}):
        ran = run("campaign", "create", a_file(tmp_path, **changes), "--check", other)
        assert (ran.code, ran.out) == (2, "")
        assert f"--check starts nothing and says all about the file, so it goes without {other}" in ran.err


def test_a_campaign_starts_although_owners_may_refuse_it(fedloom: Run, operator: Operator, tmp_path: Path) -> None:
    file = a_file(tmp_path, lora={"rank": 128})
    ran = fedloom("campaign", "create", file)
    assert ran.code == 0
    assert ran.err.startswith("owners' default settings would refuse small:\n- lora.rank is 128")
    assert ran.err.endswith(f"{ALLOW}\n")
    assert "created campaign small" in ran.out
    ran = fedloom("campaign", "create", file, "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["name"] == "small", "the words go elsewhere"
    ran = fedloom("campaign", "list")
    assert "small: waiting for agents: 0 of 3 enrolled" in ran.out
    assert len(operator.items("/v1/campaigns")) == 2
