"""The examples of third-party algorithms, installed: discovered, validated, and run over HTTP."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.adapters.files import AdapterFile
from shared.adapters.lora import factors, shape_at_rank
from shared.algorithms import Updates, UpdateTensor
from tests.support.distributions import EXAMPLES, load_example, pip_install
from tests.support.entry_points import write_out
from tests.support.processes import ROOT, QuickAgent, QuickCoordinator, ended
from tests.support.scripted import campaign_body

Tensors = dict[str, np.ndarray]
ROWS = {"ada": 10, "bob": 30, "cyd": 60}
ROUNDS, SEED = 3, 11
MEAN = load_example("trimmed_mean")


@pytest.fixture(
    scope="module",
    params=[pytest.param(write_out, id="by-hand"), pytest.param(pip_install, id="pip", marks=pytest.mark.soak)],
)
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    install: Callable[[Path, Path], str] = request.param
    return install(EXAMPLES, tmp_path_factory.mktemp("site"))


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
    assert len(names) == 7 + 4
    trim = schema["trim"]
    assert (trim["default"], trim["minimum"], trim["exclusiveMaximum"]) == (0.1, 0, 0.5)
    assert trim["description"].startswith("Share β of clients")


VALIDATE = """
import json
from pydantic import ValidationError
from shared.campaign.spec import AlgorithmSection
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
def test_outliers_at_both_ends_are_dropped(trim: float, values: list[float], mean: float) -> None:
    updates = [
        UpdateTensor(p, p, (1,), lambda slot, value=value: np.float32([value])) for p, value in enumerate(values)
    ]
    server = MEAN.server(MEAN.params(trim=trim))
    after = server.aggregate(np.float32([1.0]), Updates(updates, "w", (1,)), {}, first=True)
    assert after.dtype == np.float32
    assert after.tolist() == [pytest.approx(1.0 + mean, rel=1e-6)]


def run_campaign(
    installed: str,
    folder: Path,
    agents: dict[str, dict[str, Any]],
    algorithm: dict[str, Any],
    *,
    at_agents: bool = False,
    **changes: Any,
) -> list[Tensors]:
    """Run a campaign whose agents have these options, and verify it. Returns its adapters, from adapter 0.

    at_agents: whether the agents have the examples too. changes: further sections of the campaign file.
    """
    coordinator = QuickCoordinator(folder / "coordinator", PYTHONPATH=installed)
    started = [QuickAgent.recorded_one(coordinator, folder, name, **options) for name, options in agents.items()]
    with ended(coordinator, *started):
        for agent in started:
            agent.environment |= {"PYTHONPATH": installed} if at_agents else {}
            agent.start()
        operator = coordinator.operator
        body = campaign_body(
            rounds=ROUNDS,
            training={"steps": 1, "seed": SEED},
            algorithm=algorithm,
            selection={"minimum": len(agents)},
            retention={"updates": ROUNDS},
            **changes,
        )
        campaign_id = operator.post("/v1/campaigns", body)["id"]
        assert operator.wait_for(campaign_id, "completed", "failed", "paused")["state"] == "completed"
        assert {each["outcome"] for each in operator.verify(campaign_id)} == {"verified"}
        adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")
        read = []
        for adapter in adapters:
            file = folder / f"{adapter['number']}.safetensors"
            file.write_bytes(operator.http.get(f"/v1/blobs/{adapter['blob']['sha256']}").content)
            with AdapterFile(file) as opened:
                read.append({name: opened.read(name).copy() for name in opened.tensors})
        [listed] = [each for each in operator.items("/v1/algorithms") if each["name"] == algorithm["name"]]
    assert listed["params_schema"]["properties"].keys() == algorithm["params"].keys()
    assert listed["mixes_ranks"] is (algorithm["name"] == "svd")
    return read


def deltas_of(x: Tensors, round_number: int, n_clients: int, ranks: Sequence[int] | None = None) -> list[Tensors]:
    """The deltas that recorded children draw, in the order of client numbers. ranks: theirs; None means that of x."""
    drawn = []
    for client in range(n_clients):
        rng = np.random.default_rng((SEED, round_number, client))
        shapes = {name: values.shape for name, values in x.items()}
        if ranks:
            shapes = {name: shape_at_rank(name, shape, ranks[client]) for name, shape in shapes.items()}
        drawn.append({name: rng.standard_normal(shape, dtype=np.float32) / 16 for name, shape in shapes.items()})
    return drawn


@pytest.mark.deep
def test_a_campaign_runs_with_the_trimmed_mean(installed: str, tmp_path: Path) -> None:
    agents = {name: {"n_rows": n_rows} for name, n_rows in ROWS.items()}
    x, *_, last = run_campaign(installed, tmp_path, agents, {"name": "trimmed_mean", "params": {"trim": 0.4}})
    for round_number in range(1, ROUNDS + 1):
        deltas = deltas_of(x, round_number, len(ROWS))
        x = {name: values + np.median([delta[name] for delta in deltas], axis=0) for name, values in x.items()}
    for name, values in x.items():
        np.testing.assert_allclose(last[name], values, rtol=0, atol=1e-6)


def test_krum_passes_over_a_liar(installed: str, tmp_path: Path) -> None:
    agents: dict[str, dict[str, Any]] = {name: {} for name in ("ada", "bob", "cyd", "dan", "eve")}
    agents["bob"]["factor"] = -50
    x, *_, last = run_campaign(installed, tmp_path, agents, {"name": "krum", "params": {"f": 1}})
    for round_number in range(1, ROUNDS + 1):
        deltas = deltas_of(x, round_number, len(agents))
        deltas[1] = {name: -50 * values for name, values in deltas[1].items()}
        flat = [np.concatenate([values.reshape(-1) for values in delta.values()]) for delta in deltas]
        near = [sorted(float(((one - other) ** 2).sum()) for other in flat)[1:3] for one in flat]
        chosen = int(np.argmin([sum(distances) for distances in near]))
        assert chosen != 1
        x = {name: values + deltas[chosen][name] for name, values in x.items()}
    for name, values in x.items():
        np.testing.assert_allclose(last[name], values, rtol=0, atol=1e-6)


@pytest.mark.deep
def test_the_svd_of_the_mean_product_equals_the_dense_truncation(installed: str, tmp_path: Path) -> None:
    agents = {name: {"n_rows": n_rows} for name, n_rows in ROWS.items()}
    made = run_campaign(installed, tmp_path, agents, {"name": "svd", "params": {}})
    [(a, b)] = factors(made[0])
    p = np.array(list(ROWS.values())) / sum(ROWS.values())
    for round_number, (x, x_next) in enumerate(pairwise(made), 1):
        deltas = deltas_of(x, round_number, len(ROWS))
        ends = [(x[b].astype(float) + delta[b], x[a].astype(float) + delta[a]) for delta in deltas]
        u, s, v = np.linalg.svd(sum(weight * (end_b @ end_a) for weight, (end_b, end_a) in zip(p, ends, strict=True)))
        best = u[:, :2] * s[:2] @ v[:2]
        assert np.linalg.norm(x_next[b].astype(float) @ x_next[a] - best) <= 1e-5 * np.linalg.norm(best)


@pytest.mark.deep
def test_the_svd_mixes_ranks(installed: str, tmp_path: Path) -> None:
    """The agents do not have the examples: they train what the job says."""
    ranks, layer = {"ada": 4, "bob": 8}, {"rows": 20, "size": 30}
    settings = {name: f"[compute]\nmax_lora_rank = {rank}\n" for name, rank in ranks.items()}
    agents = {name: {"n_rows": ROWS[name], "settings": settings[name], **layer} for name in ranks}
    made = run_campaign(installed, tmp_path, agents, {"name": "svd", "params": {}}, lora={"rank": 8})
    [(a, b)] = factors(made[0])
    assert (made[0][a].shape, made[0][b].shape) == ((8, 30), (20, 8))
    for round_number, (x, x_next) in enumerate(pairwise(made), 1):
        mean = np.zeros((20, 30))
        for delta, p in zip(deltas_of(x, round_number, 2, [*ranks.values()]), (0.25, 0.75), strict=True):
            r_k = len(delta[a])
            mean += p * ((x[b][:, :r_k].astype(float) + delta[b]) @ (x[a][:r_k].astype(float) + delta[a]))
        u, s, v = np.linalg.svd(mean)
        best = u[:, :8] * s[:8] @ v[:8]
        assert np.linalg.norm(x_next[b].astype(float) @ x_next[a] - best) <= 1e-5 * np.linalg.norm(best)
        np.testing.assert_allclose(np.linalg.norm(x_next[b], axis=0) ** 2, s[:8], rtol=1e-4)  # in falling order


@pytest.mark.deep
def test_clipping_bounds_whole_updates(installed: str, tmp_path: Path) -> None:
    agents = {"ada": {}, "bob": {"factor": 1e-3}, "cyd": {"factor": 100}}
    algorithm = {"name": "clipping", "params": {"bound": 0.1}}
    made = run_campaign(installed, tmp_path, agents, algorithm, at_agents=True)
    for round_number, (x, x_next) in enumerate(pairwise(made), 1):
        ada, bob, cyd = deltas_of(x, round_number, 3)
        norms = [sum(float((values**2).sum()) for values in delta.values()) ** 0.5 for delta in (ada, cyd)]
        assert min(norms) > 0.1
        for name, values in x.items():
            mean = (0.1 * ada[name] / norms[0] + 1e-3 * bob[name] + 0.1 * cyd[name] / norms[1]) / 3
            np.testing.assert_allclose(x_next[name], values + mean, rtol=0, atol=1e-6)


def test_an_adapter_that_the_algorithm_cannot_divide_is_refused_before_training(installed: str, tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator", PYTHONPATH=installed)
    agent = QuickAgent.recorded_one(coordinator, tmp_path, "ada")
    with ended(coordinator, agent):
        agent.start()
        operator = coordinator.operator
        only_b = {"lora": {"rank": 2, "freeze_a": True}, "selection": {"minimum": 1}}
        with_svd = campaign_body(**only_b, name="svd", algorithm={"name": "svd"})
        stopped = operator.wait_for(operator.post("/v1/campaigns", with_svd)["id"], "completed", "failed", "paused")
        mean = operator.post("/v1/campaigns", campaign_body(**only_b, name="mean"))["id"]
        operator.wait_for(mean, "completed")
        reply = operator.http.post("/v1/campaigns", json={**with_svd, "name": "next", "start_from": "mean/final"})
    assert stopped["state"] == "paused"
    assert "lora_B.weight: the algorithm has it in 0 parts, not in one" in stopped["reason"]
    assert reply.status_code == 422
    assert "svd cannot aggregate this adapter: " in reply.text
    assert "lora_B.weight: the algorithm has it in 0 parts" in reply.text
