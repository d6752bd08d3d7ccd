"""A third kind of training, KTO, as an installed distribution of two files: trained over HTTP, its metric shown."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_training import SETTINGS, make_agent
from tests.support.entry_points import write_out
from tests.support.processes import ROOT, QuickCoordinator, ended

pytestmark = pytest.mark.train

CAMPAIGN: dict[str, Any] = {
    "name": "thumbs",
    "kind": "kto",
    "base": {"model": "org/tiny"},
    "lora": {"rank": 4},
    "training": {"steps": 6, "batch_size": 4, "max_length": 128, "learning_rate": 0.005, "seed": 3},
    "kto": {"beta": 0.3},
    "data": {"name": "rows"},
    "rounds": 2,
    "selection": {"minimum": 2},
}
ALLOWED = SETTINGS + 'other_columns = {{ label = "good" }}\n[policy]\nkinds = ["kto"]\n'


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_out(Path(__file__).parent / "kto", tmp_path_factory.mktemp("site"))


def lines_of_rows() -> list[str]:
    """Each completion of the pairs as a row of its own, with its label as text."""
    from tests.support.tiny import PAIRS

    rows = [
        {
            "instruction": pair["instruction"],
            "input": pair["input"],
            "output": pair[role],
            "good": str(role == "chosen"),
        }
        for pair in PAIRS
        for role in ("chosen", "rejected")
    ]
    return [json.dumps(row) for row in rows]


def fedloom(installed: str, *command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([installed, str(ROOT)])
    argv = [sys.executable, "-m", "fedloom", *map(str, command)]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "160", **environment}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.deep
def test_it_is_trained_over_http_and_its_metric_is_seen_everywhere(installed: str, tmp_path: Path) -> None:
    from tests.support.tiny import make_model

    model, lines = make_model(tmp_path / "model"), lines_of_rows()
    coordinator = QuickCoordinator(tmp_path / "coordinator", PYTHONPATH=installed)
    agents = [
        make_agent(coordinator, tmp_path / name, model, "\n".join(rows), ALLOWED)
        for name, rows in (("ada", lines[:80]), ("bob", lines[80:]))
    ]
    with ended(coordinator, *agents):
        for agent in agents:
            agent.environment |= {"PYTHONPATH": installed}
            agent.start()
        operator = coordinator.operator
        campaign_id = operator.post("/v1/campaigns", CAMPAIGN)["id"]
        campaign = operator.wait_for(campaign_id, "completed", "paused", timeout_s=400)
        assert campaign["state"] == "completed", campaign["reason"]
        metrics = operator.items(f"/v1/campaigns/{campaign_id}/metrics", name="held_out_agreement")
        adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
        # the command line needs no plug-in: the coordinator says what the metrics are
        to_it = {"FEDLOOM_URL": coordinator.url, "FEDLOOM_KEY": operator.key}
        shown = fedloom("", "campaign", "show", "thumbs", **to_it).stdout
        watched = fedloom("", "campaign", "watch", "thumbs", **to_it).stdout
        pulled = fedloom("", "adapter", "pull", "thumbs", "--out", tmp_path / "pulled", **to_it)
    assert pulled.returncode == 0, pulled.stderr
    [described] = [each for each in campaign["metrics"] if each["name"] == "held_out_agreement"]
    assert (described["unit"], described["better"], described["weight"]) == ("of rows", "higher", "rows")
    means = {row["round"]: row["value"] for row in metrics if row["client_number"] is None}
    assert len(metrics) == 3 * 3
    assert {row["unit"] for row in metrics} == {"of rows"}
    assert means[2] > 0.7 > means[0]
    assert [each["metrics"]["held_out_agreement"] for each in adapters] == list(means.values())
    losses = [each["metrics"]["held_out_loss"] for each in adapters]
    assert losses[2] < losses[1] < losses[0] == pytest.approx(0.5)
    last = f"{means[2]:.1%} of rows"
    assert "HELD-OUT AGREEMENT" in shown
    assert "held-out agreement in % of rows" in shown
    assert f"held-out agreement {last}" in watched
    card = (tmp_path / "pulled" / "README.md").read_text()
    assert f"| held-out agreement | {last} |" in card
    assert "a row |" in card


@pytest.mark.soak
def test_a_simulation_writes_its_metric_with_the_unit(installed: str, tmp_path: Path) -> None:
    from tests.support.tiny import make_model

    make_model(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text("\n".join(lines_of_rows()))
    (tmp_path / "agent.toml").write_text(ALLOWED.format(model="model"))
    one_round = CAMPAIGN | {"rounds": 1, "training": {"steps": 1, "batch_size": 4, "max_length": 128}}
    (tmp_path / "campaign.json").write_text(json.dumps(one_round))
    ran = fedloom(installed, "simulate", tmp_path / "campaign.json", "--out", tmp_path / "out", "--clients", 2)
    assert ran.returncode == 0, ran.stderr
    assert "since these clients have no owners, except policy.kinds of agent.toml" in ran.stdout
    with (tmp_path / "out" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == "held_out_agreement"]
    assert len(rows) == 2 * 3
    assert {row["unit"] for row in rows} == {"of rows"}


def test_an_agent_without_it_and_a_policy_without_it_refuse_in_words(installed: str, tmp_path: Path) -> None:
    from tests.support.tiny import make_model

    model, lines = make_model(tmp_path / "model"), lines_of_rows()
    coordinator = QuickCoordinator(tmp_path / "coordinator", PYTHONPATH=installed)
    ada = make_agent(coordinator, tmp_path / "ada", model, "\n".join(lines), ALLOWED)
    bob = make_agent(coordinator, tmp_path / "bob", model, "\n".join(lines), SETTINGS)
    bob.environment |= {"PYTHONPATH": installed}
    with ended(coordinator, ada, bob):
        for agent in (ada, bob):
            agent.start()
        operator = coordinator.operator
        campaign_id = operator.post("/v1/campaigns", CAMPAIGN)["id"]
        operator.wait_for(campaign_id, "paused", "failed", timeout_s=60)
        reasons = {
            each["agent_name"]: each["reason"] for each in operator.get(f"/v1/campaigns/{campaign_id}")["participants"]
        }
    assert reasons["ada"].startswith("the kind of training kto is not installed at this agent; installed are dpo, sft.")
    assert 'the kind of training is kto, and policy.kinds = ["sft", "dpo"]' in reasons["bob"]
