"""`fedloom compare` of a campaign that leaves the precision on CPUs open: one for all trials, kept when it goes on."""

import json
from pathlib import Path

import pytest

from tests.e2e.test_comparison import CAMPAIGN, SETTINGS, compare, folder, model, write_comparison

__all__ = ["folder", "model"]

pytestmark = [pytest.mark.train, pytest.mark.deep]


def test_all_trials_have_the_precision_that_was_decided_first(folder: Path, model: Path) -> None:
    campaign = {**CAMPAIGN, "base": {"model": "org/tiny", "cpu_dtype": "auto"}, "rounds": 1}
    (folder / "campaign.json").write_text(json.dumps(campaign))
    write_comparison(folder, grid={})
    settings = folder / "agent.toml"
    for own, algorithm in (("bfloat16", "fedavg"), ("auto", "fedprox")):
        settings.write_text(SETTINGS.format(model=model).replace("threads = 1", f'threads = 1\ndtype = "{own}"'))
        done = compare(folder, "--algorithms", algorithm, "--seeds", 1, "--baselines", "none")
        assert done.returncode == 0, done.stderr
    states = [json.loads(path.read_text()) for path in (folder / "out" / "runs").rglob("simulation.json")]
    assert [state["campaign"]["base"]["cpu_dtype"] for state in states] == ["bfloat16"] * 2
    assert json.loads((folder / "out" / "comparison.json").read_text())["cpu_dtype"] == "bfloat16"
    settings.write_text(SETTINGS.format(model=model).replace("threads = 1", 'threads = 1\ndtype = "float32"'))
    refused = compare(folder, "--algorithms", "fedavgm", "--seeds", 1, "--baselines", "none", "--json")
    [failure] = json.loads(refused.stdout)["failures"]
    assert 'in bfloat16 on a CPU (base.cpu_dtype), and compute.dtype = "float32"' in str(failure)
