"""The examples run as published."""

import json
import runpy
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fedloom.comparison.baselines import Baselines
from fedloom.comparison.planning.checks import checked_grid
from fedloom.comparison.planning.methods import methods
from fedloom.comparison.planning.points import count_points
from fedloom.comparison.spec import read_comparison
from shared.campaign.file import read_campaign_file
from shared.campaign.sections import FROM_COORDINATOR
from shared.campaign.spec import CampaignSpec
from tests.support.messages import evaluated
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body, prepared
from tests.support.server import RunningCoordinator

EXAMPLES = Path(__file__).parents[2] / "examples"


class Worker(threading.Thread):
    """Completes each task of its agent. Its held-out loss falls with the learning rate."""

    def __init__(self, agent: ScriptedAgent, folder: Path) -> None:
        super().__init__()
        self.agent, self.folder = agent, folder
        self.stopped = threading.Event()
        self.specs: dict[str, CampaignSpec] = {}

    def run(self) -> None:
        while not self.stopped.is_set():
            reply = self.agent.ask(wait_s=0.2)
            if reply.status_code == 201:
                self.work(reply.json())

    def work(self, lease: dict) -> None:
        agent, task = self.agent, lease["assignment"]
        if task["kind"] == "prepare":
            self.specs[task["campaign_id"]] = CampaignSpec.model_validate(task["spec"], context=FROM_COORDINATOR)
        spec = self.specs[task["campaign_id"]]
        match task["kind"]:
            case "prepare":
                result = prepared(10, 5)
            case "init":
                result = {"kind": "init", "adapter": agent.upload(lease, "adapter", adapter_bytes(self.folder))}
            case "train":
                delta = adapter_bytes(self.folder, fill=spec.training.learning_rate_in(task["round"], spec.rounds))
                result = agent.train_result(agent.upload(lease, "delta", delta))
            case "evaluate":
                loss = 1.0 if spec.name.endswith("0.0005") else 2.0
                result = evaluated(loss - task["round"] / 10, n_rows=5, n_tokens=100)
        assert agent.result(lease, result).status_code == 200


@pytest.fixture
def workers(agents: list[ScriptedAgent], tmp_path: Path) -> Iterator[None]:
    threads = [Worker(agent, tmp_path) for agent in agents]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.stopped.set()
    for thread in threads:
        thread.join()


@pytest.mark.deep
@pytest.mark.usefixtures("workers")
def test_sweep_pulls_the_better_adapter(
    coordinator: RunningCoordinator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FEDLOOM_URL", coordinator.url)
    monkeypatch.setenv("FEDLOOM_KEY", coordinator.key)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(campaign_body(rounds=2, evaluation={"every": 1})))
    main = runpy.run_path(str(EXAMPLES / "campaigns" / "sweep.py"))["main"]
    main(tmp_path / "c.yaml", tmp_path / "best")
    assert capsys.readouterr().out.splitlines() == [
        "small-lr0.0001: completed, held-out loss 2.0000 1.9000 1.8000",
        "small-lr0.0005: completed, held-out loss 1.0000 0.9000 0.8000",
        f"small-lr0.0005 wins: adapter 2, held-out loss 0.8, in {tmp_path}/best",
    ]
    assert "small-lr0.0005" in (tmp_path / "best" / "README.md").read_text()


@pytest.mark.parametrize("file", ["campaign.yaml", "quickstart/campaign.yaml"])
def test_the_campaigns_ask_for_no_more_than_owners_usually_allow(file: str) -> None:
    spec = read_campaign_file(EXAMPLES / file)
    training = spec.training
    assert spec.selection.minimum >= 3
    assert training.steps is not None
    assert training.steps * training.batch_size >= 40, "rows behind an update"
    assert 8 <= training.batch_size <= 512
    assert 64 <= training.max_length <= 8192
    assert spec.lora.rank <= 64
    assert spec.retention.updates == 0


def test_the_quickstarts_owners_pass_over_their_rows_at_most_ten_times(tmp_path: Path) -> None:
    made = [sys.executable, EXAMPLES / "quickstart" / "make_data.py", tmp_path]
    subprocess.run(made, check=True)
    rows = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    spec = read_campaign_file(EXAMPLES / "quickstart" / "campaign.yaml")
    assert spec.training.steps is not None
    n_used = spec.rounds * spec.training.steps * spec.training.batch_size
    for n_rows in Counter(row["owner"] for row in rows).values():
        assert n_used <= 10 * 0.8 * n_rows, "a fifth may be held out"


def test_the_example_of_a_sweep_fits_the_quickstarts_campaign() -> None:
    spec = read_comparison(EXAMPLES / "campaigns" / "sweep.yaml")
    demo = EXAMPLES.parent / "demo"
    assert {spec.campaign.resolve(), spec.settings.resolve()} == {demo / "campaign.yaml", demo / "agent.toml"}
    campaign = read_campaign_file(EXAMPLES / "quickstart" / "campaign.yaml")
    compared = list(methods(["fedavg"], campaign, spec.clients, Baselines.POOLED))
    grid = checked_grid(spec.grid, campaign, compared, campaign.training.seed, spec.clients)
    n = sum(count_points(method, campaign, grid) for method in compared[1:]) + len(compared[1:])
    assert f"up to {n} trainings" in (EXAMPLES / "campaigns" / "sweep.yaml").read_text()


def test_the_example_campaign_is_valid() -> None:
    spec = read_campaign_file(EXAMPLES / "campaign.yaml")
    assert spec.training.learning_rate_in(1, spec.rounds) == pytest.approx(2e-4)
    assert spec.base.model == "HuggingFaceTB/SmolLM2-135M-Instruct"
