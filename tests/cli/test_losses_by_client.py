"""What `campaign show`, `watch` and `agent list` say of each client: who gains, who loses, who tells nothing, who is
away."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body, initial_bytes
from tests.support.server import RunningCoordinator

SILENT: dict[str, Any] = {"train_loss_first": None, "train_loss_last": None, "train_loss_mean": None}
AWAY_S = 151.0


class Wards:
    """A DPO campaign of two rounds: ward-3 gains, ward-7 loses, ward-9 reports no losses."""

    def __init__(self, operator: Operator, enroll: Callable[..., ScriptedAgent], folder: Path) -> None:
        self.agents = [enroll(name) for name in ("ward-3", "ward-7", "ward-9")]
        self.folder = folder
        body = campaign_body(kind="dpo", rounds=2, evaluation={"every": 1}, selection={"minimum": 3})
        self.id = str(operator.post("/v1/campaigns", body)["id"])
        self.operator = operator

    def begin(self) -> None:
        for agent, n_train in zip(self.agents, (60, 30, 10), strict=True):
            says: dict[str, Any] = {"report": "none", "evaluates": False} if agent.name == "ward-9" else {}
            agent.prepare(n_train=n_train, n_held_out=5, **says)
        self.agents[0].init(initial_bytes(self.folder, 1.0))
        self.evaluate(2.0, 1.0, accuracy=0.5)

    def evaluate(self, *losses: float, accuracy: float) -> None:
        for agent, loss in zip(self.agents[:2], losses, strict=True):
            agent.evaluate(loss, held_out_margin=0.25, held_out_accuracy=accuracy)

    def round(self, *losses: float, accuracy: float = 0.75) -> None:
        for agent in self.agents:
            metrics = SILENT if agent.name == "ward-9" else {"reward_margin": 0.125, "reward_accuracy": 0.625}
            agent.train(adapter_bytes(self.folder, 4.0), **metrics)
        self.evaluate(*losses, accuracy=accuracy)
        number = self.operator.get(f"/v1/campaigns/{self.id}")["rounds_closed"]
        adapter = f"/v1/campaigns/{self.id}/adapters/{number}"
        self.operator.wait_until(lambda: self.operator.get(adapter), lambda read: not read["evaluating"])


@pytest.fixture
def wards(operator: Operator, enroll: Callable[..., ScriptedAgent], tmp_path: Path) -> Wards:
    """After one of its two rounds."""
    made = Wards(operator, enroll, tmp_path)
    made.begin()
    made.round(1.5, 1.25)
    return made


def words(text: str) -> list[str]:
    """Lines with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_show_says_who_gains_who_loses_and_who_tells_no_losses(fedloom: Run, wards: Wards) -> None:
    shown = fedloom("campaign", "show", wards.id).out
    for line in (
        "AGENT WEIGHT TRAIN LOSS HELD-OUT LOSS VS BASE",
        "ward-3 60.0% 1.5000 1.5000 -0.5000",
        "ward-7 30.0% 1.5000 1.2500 +0.2500 worse",
        "ward-9 10.0% withheld by its owner",
        "last updates up to round 1; held-out losses of adapter 1",
        "worse than the base for: ward-7 (+0.2500)",
        "losses withheld by its owner: ward-9; the means are over the others",
        "held-out loss of adapter 1: mean of 2 of 3 clients",
        "train loss of round 1: mean of 2 of 3 clients",
    ):
        assert line in words(shown)
    assert any(line.startswith("1 closed 3/3 1.5000 1.3750 * 5e-05") for line in words(shown))
    assert max(map(len, shown.splitlines())) <= 80


def test_show_has_the_kinds_own_metrics_by_round_and_by_client(fedloom: Run, wards: Wards) -> None:
    shown = fedloom("campaign", "show", wards.id).out
    for line in (
        "AGENT HELD-OUT MARGIN HELD-OUT ACCURACY",
        "ward-3 0.2500 → 0.2500 50.0% → 75.0%",
        "ROUND HELD-OUT MARGIN HELD-OUT ACCURACY REWARD MARGIN REWARD ACCURACY",
        "0 0.2500 50.0%",
        "1 0.2500 75.0% 0.1250 62.5%",
    ):
        assert line in words(shown)
    page = json.loads(fedloom("campaign", "show", wards.id, "--json").out)
    assert page["training"] == {
        "train_loss_mean": {"1": 1.5},
        "reward_margin": {"1": 0.125},
        "reward_accuracy": {"1": 0.625},
    }
    assert page["held_out"]["held_out_accuracy"] == {"0": 0.5, "1": 0.75}
    assert [each["worse_than_base"] for each in page["clients"]] == [False, True, None]


def test_watch_in_a_pipe_says_who_is_worse_off_after_the_evaluation(fedloom: Run, wards: Wards) -> None:
    fedloom("campaign", "pause", wards.id)
    lines = fedloom("campaign", "watch", wards.id).out.splitlines()
    evaluated = [line.partition("adapter-evaluated ")[2] for line in lines if "adapter-evaluated" in line]
    assert evaluated[-1].startswith("adapter=1 clients=2 held-out loss 1.3750 nats a pair, held-out margin 0.2500 ")
    assert "worse than the base for: ward-7 (+0.2500)" in lines
    events = fedloom("campaign", "watch", wards.id, "--json").out.splitlines()
    assert all("number" in json.loads(line) for line in events)


def test_watch_on_a_terminal_has_losses_and_the_kinds_metrics(
    fedloom: Run, wards: Wards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    lease = wards.agents[0].lease("train")
    metrics = {"reward_margin": 0.5, "reward_accuracy": 0.5}
    wards.agents[0].renew(lease, phase="training", done=3, total=10, loss=0.5, tokens_per_s=99.0, metrics=metrics)
    fedloom("campaign", "pause", wards.id)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", fedloom("campaign", "watch", wards.id).out)
    for line in (
        "AGENT DOING DONE LOSS REWARD MARGIN REWARD ACCURACY TOKENS/S",
        "held-out accuracy 50.0% → 75.0% of pairs",
        "each a mean of 2 of 3 clients",
        "ward-7 30.0% 1.5000 1.2500 +0.2500 worse",
        "worse than the base for: ward-7 (+0.2500)",
    ):
        assert line in words(drawn), drawn
    assert max(map(len, drawn.splitlines())) <= 80


def test_an_agent_that_stopped_is_away_everywhere(
    fedloom: Run, wards: Wards, coordinator: RunningCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator.clock.move(AWAY_S)
    for agent in (wards.agents[0], wards.agents[2]):
        agent.ask(wait_s=0)
    listed = {line.split()[0]: line for line in fedloom("agent", "list").out.splitlines()}
    assert re.search(r"ward-7 +away since [0-9:]{5} ", listed["ward-7"])
    assert re.search(r"ward-3 +active ", listed["ward-3"])
    assert re.search(r"state +away since [0-9:]{5}", fedloom("agent", "show", "ward-7").out)
    shown = fedloom("campaign", "show", wards.id).out
    assert re.search(r"1  ward-7  prepared    30         5  away since [0-9:]{5}", shown)
    fedloom("campaign", "pause", wards.id)
    watched = fedloom("campaign", "watch", wards.id).out
    assert re.search(r"^ward-7 is away since [0-9:]{5}$", watched, re.MULTILINE)
    monkeypatch.setenv("FORCE_COLOR", "1")
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", fedloom("campaign", "watch", wards.id).out)
    assert re.search(r"^away: ward-7 since [0-9:]{5}\s*$", drawn, re.MULTILINE)
