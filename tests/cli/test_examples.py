"""The examples run as published."""

import runpy
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from shared.campaign.file import read_campaign_file
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

    def run(self) -> None:
        while not self.stopped.is_set():
            reply = self.agent.ask(wait_s=0.2)
            if reply.status_code == 201:
                self.work(reply.json())

    def work(self, lease: dict) -> None:
        agent, job = self.agent, lease["job"]
        match job["kind"]:
            case "prepare":
                result = prepared(10, 5)
            case "init":
                result = {"kind": "init", "adapter": agent.upload(lease, "adapter", adapter_bytes(self.folder))}
            case "train":
                delta = adapter_bytes(self.folder, fill=job["learning_rate"])
                result = agent.train_result(agent.upload(lease, "delta", delta))
            case "evaluate":
                loss = 1.0 if job["campaign_name"].endswith("0.0005") else 2.0
                result = evaluated(loss - job["round"] / 10, n_rows=5, n_tokens=100)
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
    main = runpy.run_path(str(EXAMPLES / "sweep.py"))["main"]
    main(tmp_path / "c.yaml", tmp_path / "best")
    assert capsys.readouterr().out.splitlines() == [
        "small-lr0.0001: completed, held-out loss 2.0000 1.9000 1.8000",
        "small-lr0.0005: completed, held-out loss 1.0000 0.9000 0.8000",
        f"small-lr0.0005 wins: adapter 2, held-out loss 0.8, in {tmp_path}/best",
    ]
    assert "small-lr0.0005" in (tmp_path / "best" / "README.md").read_text()


def test_the_example_campaign_is_valid() -> None:
    spec = read_campaign_file(EXAMPLES / "campaign.yaml")
    assert spec.training.learning_rate_in(1, spec.rounds) == pytest.approx(2e-4)
    assert spec.base.model == "HuggingFaceTB/SmolLM2-135M-Instruct"
