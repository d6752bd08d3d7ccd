"""The example of a third-party algorithm, installed: discovered, validated, and run over HTTP."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.adapters import AdapterFile
from shared.algorithms import Updates, UpdateTensor
from tests.support.distributions import EXAMPLE, pip_install
from tests.support.entry_points import write_out
from tests.support.processes import ROOT, QuickAgent, QuickCoordinator, ended
from tests.support.scripted import campaign_body

ROWS = {"ada": 10, "bob": 30, "cyd": 60}
ROUNDS, SEED = 3, 11


@pytest.fixture(
    scope="module",
    params=[pytest.param(write_out, id="by-hand"), pytest.param(pip_install, id="pip", marks=pytest.mark.deep)],
)
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    install: Callable[[Path, Path], str] = request.param
    return install(EXAMPLE, tmp_path_factory.mktemp("site"))


def python(installed: str, code: str) -> Any:
    """Run code in a process that has the example installed. Returns what it prints as JSON."""
    path = os.pathsep.join([installed, str(ROOT)])
    argv = [sys.executable, "-c", code]
    ran = subprocess.run(argv, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


FIND = """
import json
from shared import algorithms
found = algorithms.find("trimmed_mean")
print(json.dumps([found.summary, found.params.model_json_schema()["properties"], algorithms.names()]))
"""


def test_it_is_found_with_its_schema_beside_the_seven(installed: str) -> None:
    summary, schema, names = python(installed, FIND)
    assert summary.startswith("Trimmed mean: discards the clients' largest")
    assert len(names) == 8
    trim = schema["trim"]
    assert (trim["default"], trim["minimum"], trim["exclusiveMaximum"]) == (0.1, 0, 0.5)
    assert trim["description"].startswith("Share β of clients")


VALIDATE = """
import json
from pydantic import ValidationError
from shared.campaign import AlgorithmSection
messages = []
for params in ({}, {"trim": 0.2}, {"trim": 0.5}, {"trin": 0.2}):
    try:
        AlgorithmSection(name="trimmed_mean", params=params)
        messages.append("")
    except ValidationError as error:
        messages.append(error.errors()[0]["msg"])
print(json.dumps(messages))
"""


def test_campaigns_with_it_are_validated(installed: str) -> None:
    default, given, too_large, misspelt = python(installed, VALIDATE)
    assert default == given == ""
    assert "params.trim: Input should be less than 0.5" in too_large
    assert "params.trin: unknown; known are trim" in misspelt


@pytest.fixture(scope="module")
def module() -> Any:
    spec = importlib.util.spec_from_file_location("fedloom_trimmed_mean", EXAMPLE / "fedloom_trimmed_mean.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize(
    ("trim", "values", "mean"),
    [
        (0.2, [1.0, 2.0, 4.0, 6.0, 1e30], 4.0),
        (0.2, [-1e30, 2.0, 4.0, 6.0, 7.0], 4.0),
        (0.1, [1.0, 2.0, 4.0, 6.0, 7.0], 4.0),  # ⌊0.5⌋ = 0 values are trimmed
        (0.4, [9.0, -1e30, 1e30], 9.0),  # the median
        (0.0, [1.0, 2.0], 1.5),
        (0.29, [float(value**2) for value in range(100)], sum(value**2 for value in range(29, 71)) / 42),
    ],
)
def test_outliers_at_both_ends_are_dropped(module: Any, trim: float, values: list[float], mean: float) -> None:
    updates = [UpdateTensor(p, p, lambda slot, value=value: np.float32([value])) for p, value in enumerate(values)]
    after = module.Server(module.Params(trim=trim)).aggregate(np.float32([1.0]), Updates(updates, (1,)), {}, first=True)
    assert after.dtype == np.float32
    assert after.tolist() == [pytest.approx(1.0 + mean, rel=1e-6)]


def expected(adapter_zero: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The median of three clients, round by round. Clients draw their deltas as the recorded child does."""
    x = {name: values.astype(np.float64) for name, values in adapter_zero.items()}
    for round_number in range(1, ROUNDS + 1):
        generators = [np.random.default_rng((SEED, round_number, client)) for client in range(len(ROWS))]
        for name, values in x.items():
            deltas = [rng.standard_normal(values.shape, dtype=np.float32) / 16 for rng in generators]
            x[name] = values + np.median(deltas, axis=0)
    return x


def test_a_campaign_runs_with_it(installed: str, tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator", PYTHONPATH=installed)
    agents = [QuickAgent.recorded_one(coordinator, tmp_path, name, n_rows) for name, n_rows in ROWS.items()]
    with ended(coordinator, *agents):
        for agent in agents:
            agent.start()  # without the example: its client half is plain
        operator = coordinator.operator
        body = campaign_body(
            rounds=ROUNDS,
            training={"steps": 1, "seed": SEED},
            algorithm={"name": "trimmed_mean", "params": {"trim": 0.4}},
            selection={"minimum": 3},
        )
        campaign_id = operator.post("/v1/campaigns", body)["id"]
        operator.wait_for(campaign_id, "completed")
        adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
        read = []
        for adapter in (adapters[0], adapters[-1]):
            file = tmp_path / f"{adapter['number']}.safetensors"
            file.write_bytes(operator.http.get(f"/v1/blobs/{adapter['blob']['sha256']}").content)
            with AdapterFile(file) as opened:
                read.append({name: opened.read(name).copy() for name in opened.tensors})
        [listed] = [each for each in operator.items("/v1/algorithms") if each["name"] == "trimmed_mean"]
    for name, values in expected(read[0]).items():
        np.testing.assert_allclose(read[1][name], values, rtol=0, atol=1e-6)
    assert listed["params_schema"]["properties"]["trim"]["default"] == 0.1
