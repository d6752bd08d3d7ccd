"""`make demo`, unchanged: five campaigns, the exam, the table and the plot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

pytestmark = pytest.mark.soak

DEMO = [sys.executable, str(ROOT / "examples" / "quickstart" / "demo.py")]


@pytest.mark.train
@pytest.mark.timeout(1200)
def test_the_federation_knows_more_than_its_best_owner(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "COLUMNS": "80"}
    done = subprocess.run(
        [*DEMO, "--out", str(out)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1140
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((out / "results.json").read_text())
    final = {title: list(marks.values())[-1]["all"] for title, marks in results.items()}
    best_alone = max(score for title, score in final.items() if title.endswith("alone"))
    assert final["the three together"] >= best_alone + 0.10
    assert final["all data in one place"] >= best_alone + 0.10
    assert (out / "plot.png").read_bytes().startswith(b"\x89PNG")
    limits = "the owners' limits are open, since these clients have no owners"
    for words in (limits, "the base model", "the garden alone", "fedloom chat", "fedloom simulate"):
        assert words in done.stdout


def test_the_demo_leaves_an_unrelated_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    refused = subprocess.run(
        [*DEMO, "--out", str(tmp_path)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 1
    assert "no earlier demo" in refused.stderr
    assert (tmp_path / "thesis.txt").exists()
