"""A campaign that decides by a benchmark, as scripted agents run it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.messages import benchmarked, evaluated
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body, initial_bytes

BY_FPB = {"tasks": ["fpb", "gsm8k", "mbpp"], "limit": 100, "seed": 7, "best": "fpb.acc", "stop": {"patience": 2}}


class MeasuredCampaign:
    """A campaign of six rounds: ada runs fpb and gsm8k, bob runs fpb, and nobody runs mbpp."""

    def __init__(
        self, operator: Operator, enroll: Callable[..., ScriptedAgent], folder: Path, **evaluation: Any
    ) -> None:
        self.operator, self.folder, self.agents = operator, folder, [enroll("ada"), enroll("bob")]
        body = campaign_body(rounds=6, evaluation={**BY_FPB, **evaluation}, lora={"rank": 2, "alpha": 4})
        self.id = str(operator.post("/v1/campaigns", body)["id"])

    def prepare(self) -> None:
        for agent, offers in zip(self.agents, ({"fpb": "x", "gsm8k": "x"}, {"fpb": "x"}), strict=True):
            agent.prepare(n_held_out=5, offers=offers)
        self.agents[0].init(initial_bytes(self.folder, 1.0))

    def train(self, number: int) -> None:
        for agent in self.agents:
            agent.train(adapter_bytes(self.folder, fill=float(number)))

    def evaluate(self, number: int, loss: float, fpb: float, gsm8k: float | str) -> None:
        """Do all evaluations of an adapter. A text is why a benchmark gave no number."""
        values, until = {"fpb": fpb, "gsm8k": gsm8k}, time.monotonic() + 30
        agents = {agent.name: agent for agent in self.agents}
        while not self._is_evaluated(number):
            assert time.monotonic() < until
            pending = self.operator.items(f"/v1/campaigns/{self.id}/tasks", state="pending", round=number)
            for task in pending:
                if task["kind"] == "train":  # of an adapter that is evaluated by now
                    continue
                lease = agents[task["agent_name"]].ask().json()
                asked = lease["assignment"]
                is_of_rows = asked["kind"] == "evaluate"
                body = evaluated(loss) if is_of_rows else benchmarked(asked["benchmarks"], values, "x")
                assert agents[task["agent_name"]].result(lease, body).status_code == 200

    def run(self) -> None:
        """Round 1 is the best by fpb, and rounds 2 and 3 are no better, so that it stops after round 3."""
        self.prepare()
        self.evaluate(0, 2.0, 0.5, 0.25)
        for number, fpb, gsm8k in ((1, 0.61, 0.2), (2, 0.6, 0.3), (3, 0.58, "its prompts do not fit")):
            self.train(number)
            self.evaluate(number, 2.0 - number / 10, fpb, gsm8k)
        self.operator.wait_for(self.id, "completed")

    def _is_evaluated(self, number: int) -> bool:
        reply = self.operator.http.get(f"/v1/campaigns/{self.id}/adapters/{number}")
        return reply.status_code == 200 and not reply.json()["evaluating"] and bool(reply.json()["metrics"])
