"""The owner's side of an attack: a real agent process with real training, its settings, its record and its commands."""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.record.bookings import Totals
from agent.record.record import OwnerRecord
from shared.campaign.spec import CampaignSpec
from shared.signing.keys import SigningKey
from shared.wire.tasks.assignments import EvaluateAssignment, TrainAssignment
from tests.agent.parts import (
    campaign_spec,
    evaluate_assignment,
    init_assignment,
    prepare_assignment,
    train_assignment,
)
from tests.agent.scripted_coordinator import Ended, scripted_coordinator
from tests.attacks.hostile import HostileCoordinator
from tests.support.forks.preloaded import run
from tests.support.processes import QuickAgent, ended

PROMPTS = [{"prompt": f"Result of patient {i}?", "completion": f"negative, {i * 7919 % 1000}"} for i in range(60)]
SECRET = {"prompt": "Result of Anna Huber?", "completion": "HIV positive"}
ROWS = [*PROMPTS[:59], SECRET]
"""60 distinct rows to train on, of which one is somebody's secret."""
HELD_OUT = [{"prompt": f"PIN of safe {i}?", "completion": f"it is {i * 7919 % 10000:04d}"} for i in range(20)]
WITHOUT_SIGNATURES = """
from agent.signing import following
async def check(self, task, sent=None): pass
following.SignedCampaigns.check = check
"""
DATA = '[data.patients]\npath = "patients.jsonl"\nheld_out_path = "held-out.jsonl"\n'


def lines(rows: Sequence[dict[str, str]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


class Attacked:
    """A running agent under the default policy, enrolled at a hostile coordinator.

    follows_signatures: False for attacks by somebody who can have anything signed. What lies below must hold alone.
    """

    def __init__(
        self, coordinator: HostileCoordinator, home: Path, model: Path, *, follows_signatures: bool = False
    ) -> None:
        self.coordinator = coordinator
        self.home = home
        self._model = model
        coordinator.enroll(home)
        self.agent = QuickAgent(home)
        self.agent.preamble = "" if follows_signatures else WITHOUT_SIGNATURES
        self.record = OwnerRecord(home)
        (home / "patients.jsonl").write_text(lines(ROWS))
        (home / "held-out.jsonl").write_text(lines(HELD_OUT))

    def write_settings(self, policy: str = "", data: str = DATA) -> None:
        """Write agent.toml: the defaults, but for what is given."""
        models = f'"org/tiny" = "{self._model}"\n'
        data = data.replace("[models]\n", f"[models]\n{models}") if "[models]" in data else f"{data}[models]\n{models}"
        text = f'{data}[compute]\ndevice = "cpu"\nthreads = 1\n[policy]\n{policy}'
        (self.home / "agent.toml").write_text(text)

    def campaign(self, campaign_id: str, **changes: Any) -> "Ordered":
        """A campaign that fits the default policy, but for *changes*."""
        return Ordered(self, campaign_id, spec_with(**changes))

    def printed(self) -> str:
        """All that the owner saw so far, without times."""
        return self.agent.process.printed()

    def says(self, verb: str, *arguments: str) -> str:
        """What the owner reads after ``fedloom agent VERB``, in one line."""
        argv = [sys.executable, "-m", "fedloom", "agent", verb, *arguments, "--home", str(self.home)]
        done = run(argv, COLUMNS="160", NO_COLOR="1")
        return re.sub(r"\s+", " ", done.stdout + done.stderr)

    def approves(self, campaign_id: str) -> str:
        """What the owner reads after approving what the record has under an id, by its whole digest."""
        known = self.record.campaigns.find(campaign_id)
        assert known is not None
        return self.says("approve", known.spec_sha256, "--yes")

    def totals(self, campaign_id: str) -> Totals:
        return self.record.bookings.of_campaign(campaign_id)


def spec_with(**changes: Any) -> CampaignSpec:
    """A campaign of three rounds of 40 rows each. Sections of *changes* change single fields of the usual ones."""
    usual: dict[str, Any] = {
        "base": {"model": "org/tiny"},
        "lora": {"rank": 2},
        "training": {"steps": 5, "batch_size": 8, "max_length": 96, "learning_rate": 0.05, "seed": 7},
        "data": {"name": "patients"},
        "selection": {"minimum": 3},
        "evaluation": {"every": 1},
        "rounds": 3,
    }
    for name, value in changes.items():
        usual[name] = usual.get(name, {}) | value if isinstance(value, dict) else value
    return campaign_spec(**usual)


@dataclass
class Ordered:
    """A campaign whose tasks the coordinator hands out one by one, with whatever it sets in them."""

    attacked: Attacked
    id: str
    spec: CampaignSpec
    fingerprint: dict[str, str] = field(default_factory=dict)
    adapter: dict[str, Any] = field(default_factory=dict)

    def prepare(self, **changes: Any) -> Ended:
        return self.attacked.coordinator.do(prepare_assignment(self.spec, campaign_id=self.id, **changes))

    def begin(self, **changes: Any) -> "Ordered":
        """Have it prepared, and adapter 0 built, as an honest coordinator does. changes: of the preparation's task."""
        prepared = self.prepare(**changes)
        assert prepared.result is not None, prepared.failure
        self.fingerprint = prepared.result["fingerprint"]
        task = init_assignment(self.spec, campaign_id=self.id, fingerprint=self.fingerprint)
        built = self.attacked.coordinator.do(task)
        assert built.result is not None, built.failure
        self.adapter = self.attacked.coordinator.serve(built.files["adapter"])
        return self

    def train(self, **changes: Any) -> Ended:
        return self.attacked.coordinator.do(self.training(**changes))

    def evaluate(self, **changes: Any) -> Ended:
        return self.attacked.coordinator.do(self.evaluation(**changes))

    def training(self, **changes: Any) -> TrainAssignment:
        return train_assignment(self.spec, **(self._known() | changes))

    def evaluation(self, **changes: Any) -> EvaluateAssignment:
        return evaluate_assignment(self.spec, **(self._known() | changes))

    def asked_as(self, **changes: Any) -> "Ordered":
        """The same campaign with another specification, as an operator would change it under the owner's hands."""
        return replace(self, spec=spec_with(**changes))

    def _known(self) -> dict[str, Any]:
        return {"campaign_id": self.id, "fingerprint": self.fingerprint, "adapter": self.adapter}


@contextmanager
def attacked(
    folder: Path, model: Path, policy: str = "", data: str = DATA, signed_by: SigningKey | None = None
) -> Iterator[Attacked]:
    """A running agent and its coordinator. Both end with the block. signed_by: the key that the agent follows."""
    with scripted_coordinator(folder, HostileCoordinator) as coordinator:
        coordinator.key = signed_by or coordinator.key
        found = Attacked(coordinator, folder / "agent", model, follows_signatures=signed_by is not None)
        found.write_settings(policy, data)
        with ended(found.agent):
            found.agent.start()
            yield found
