"""kill -9 while an owner's model is trained alone: the same command goes on, and gives the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.three_owners import Owners, completed
from tests.support.processes import ROOT

pytestmark = [pytest.mark.fault, pytest.mark.deep]

POINTS = {"alone: adapter written"}
QUICK = ("--max-new-tokens", "4", "--rows", "1", "--adapter", "3", "--alone")


def alone_sha256(owners: Owners) -> str:
    found = owners.numbers("ada", *QUICK)
    [alone] = [model for model in found["models"] if model["kind"] == "alone"]
    return str(alone["sha256"])


def test_it_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    with completed(tmp_path) as owners:
        home = owners.home("ada")
        whole = alone_sha256(owners)
        folder = home / "alone" / owners.campaign_id
        shutil.rmtree(folder)
        notes = {"FEDLOOM_CRASH_NOTES": str(tmp_path / "notes")}
        died = owners.report("ada", *QUICK, FEDLOOM_CRASH_AT="alone: adapter written#2", **notes)
        assert died.returncode == -signal.SIGKILL
        assert json.loads((folder / "state.json").read_text())["done"] == 1
        assert alone_sha256(owners) == whole

        shutil.rmtree(folder)
        argv = [sys.executable, "-m", "fedloom", "agent", "report", "tiny", "--home", str(home), *QUICK]
        process = subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if "round 2 of 3" in line:
                break
        time.sleep(0.2)
        process.kill()
        process.wait()
        assert alone_sha256(owners) == whole
        assert {path.name for path in folder.iterdir()} == {"adapter-3.safetensors", "state.json"}
