"""Compiled kernels come from the hub only if the owner's settings say so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

pytestmark = pytest.mark.train

CODE = """
import json, os, sys
from agent.configuration.settings import ComputeSettings
from agent.train.process.environment import guard_environment
from agent.train.process.serving import open_worker
from tests.train.odd_orders import Failing
guard_environment()
open_worker(Failing(compute=ComputeSettings(device="cpu", hub_kernels=json.loads(sys.argv[1])), error="MemoryError"))
try:
    import kernels
    found = kernels.NAME
except ImportError:
    found = None
print(json.dumps([found, os.environ.get("USE_HUB_KERNELS")]))
"""


@pytest.mark.parametrize(("allowed", "found"), [(False, [None, "NO"]), (True, ["stand-in", None])])
def test_the_package_that_fetches_kernels_is_hidden_unless_the_owner_allows_it(
    tmp_path: Path, allowed: bool, found: list[str | None]
) -> None:
    (tmp_path / "kernels.py").write_text("NAME = 'stand-in'\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    environment.pop("USE_HUB_KERNELS", None)
    command = [sys.executable, "-c", CODE, json.dumps(allowed)]
    process = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=240)
    assert json.loads(process.stdout.splitlines()[-1]) == found
