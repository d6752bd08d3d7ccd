"""An owner whose agent asks: a home with rows, and a campaign that only waits for an answer."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.configuration.open_policy import with_open_policy
from agent.main import enroll
from agent.record.campaigns import KnownCampaign
from agent.record.record import OwnerRecord
from tests.cli.conftest import Ran, Run
from tests.support.ledgers import sent
from tests.support.operator import Operator
from tests.support.processes import RECORDED_CHILD, QuickAgent, ended, wait_until
from tests.support.scripted import campaign_body
from tests.support.server import RunningCoordinator, free_port

ALONE = {"selection": {"minimum": 1}, "rounds": 2}
"""A campaign that needs nobody else."""


class OwnersAgent:
    """An agent that asks about each campaign, and its owner's command line.

    settings: tables of agent.toml beside the open policy, in which ``accept`` is "ask".
    """

    def __init__(
        self, coordinator: RunningCoordinator, operator: Operator, home: Path, run: Run, settings: str
    ) -> None:
        self.operator, self.home, self.url = operator, home, coordinator.url
        self._run = run
        enroll(home, coordinator.url, operator.token(), home.name)
        self.write_settings(settings)
        (home / "notes.jsonl").write_text("{}\n" * 10)
        self.record = OwnerRecord(home)
        self.process = QuickAgent(home, RECORDED_CHILD)

    def write_settings(self, settings: str = "", policy: str = "") -> None:
        text = f'{settings}[data.notes]\npath = "notes.jsonl"\n\n[policy]\naccept = "ask"\n{policy}'
        (self.home / "agent.toml").write_text(with_open_policy(text))

    @contextmanager
    def running(self) -> Iterator[QuickAgent]:
        """The agent in a process of its own, without a terminal."""
        with ended(self.process):
            self.process.start()
            yield self.process

    def says(self, verb: str, *arguments: object) -> Ran:
        """Run ``fedloom agent VERB`` at this home."""
        return self._run("agent", verb, *arguments, "--home", self.home)

    def approves(self, campaign_id: str, *options: object) -> Ran:
        """Approve what the record has under an id, by its whole digest and without a question."""
        return self.says("approve", self.asked(campaign_id).spec_sha256, "--yes", *options)

    def asked(self, campaign_id: str) -> KnownCampaign:
        """Wait until the agent was asked about a campaign."""
        known = wait_until(lambda: self.record.campaigns.find(campaign_id), f"campaign {campaign_id} in the record", 60)
        assert isinstance(known, KnownCampaign)
        return known

    def create(self, **changes: Any) -> str:
        """Create a campaign for this agent alone. Returns its id."""
        return str(self.operator.post("/v1/campaigns", campaign_body(**{**ALONE, **changes}))["id"])

    def sent(self, what: str) -> list[dict[str, Any]]:
        """What the ledger has of it."""
        return sent(self.home, what)

    @contextmanager
    def without_coordinator(self) -> Iterator[None]:
        """Let this home's commands find nobody at the coordinator's address; the running agent has read it before."""
        path = self.home / "identity.json"
        identity = path.read_text()
        path.write_text(identity.replace(self.url, f"http://127.0.0.1:{free_port()}"))
        yield
        path.write_text(identity)

    def state(self, campaign_id: str) -> str:
        """What the coordinator knows of the agent's part in a campaign."""
        [participant] = self.operator.get(f"/v1/campaigns/{campaign_id}")["participants"]
        return str(participant["state"])

    def wait_for_state(self, campaign_id: str, state: str) -> None:
        wait_until(lambda: self.state(campaign_id) == state, f"state {state} of campaign {campaign_id}", 60)


@pytest.fixture
def new_owner(
    coordinator: RunningCoordinator, operator: Operator, tmp_path: Path, run: Run
) -> Callable[..., OwnersAgent]:
    """Enrols agents whose owners are asked."""
    return lambda name="ada", settings="": OwnersAgent(coordinator, operator, tmp_path / name, run, settings)


@pytest.fixture
def owner(new_owner: Callable[..., OwnersAgent]) -> OwnersAgent:
    return new_owner()


@pytest.fixture
def waiting(owner: OwnersAgent) -> Iterator[tuple[OwnersAgent, str]]:
    """A running agent, and the id of a campaign that waits for its owner."""
    with ExitStack() as stack:
        stack.enter_context(owner.running())
        campaign_id = owner.create()
        owner.asked(campaign_id)
        owner.wait_for_state(campaign_id, "waiting")
        yield owner, campaign_id
