"""An operator with a key and an honest coordinator: many small campaigns, and what their metrics tell.

Thirty-one campaigns of one step and one row, each cut one token shorter, and the first loss of each client that
every operator could read, gave a completion word for word in half a minute. Nobody was asked, one client was
enough, and the operator may enrol others of its own.

Now the owner's floors refuse the small ones, each body of rows takes few campaigns in 30 days, and no single step's
loss is stored. That enrolments are the operator's word stays a matter of trust, which the documentation says.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.main import enroll
from agent.record.record import OwnerRecord
from shared.adapters.files import AdapterFile, write_adapter
from tests.attacks.attacked import DATA, HELD_OUT, ROWS, lines
from tests.support.ledgers import sent
from tests.support.operator import Operator, problem
from tests.support.processes import QuickAgent, QuickCoordinator, ended, wait_until
from tests.support.scripted import ScriptedAgent

pytestmark = [pytest.mark.train, pytest.mark.deep]

CAMPAIGN = {
    "base": {"model": "org/tiny"},
    "lora": {"rank": 2},
    "training": {"steps": 5, "batch_size": 8, "max_length": 96, "learning_rate": 1e-30, "optimizer": "sgd"},
    "data": {"name": "patients"},
    "selection": {"minimum": 3},
    "evaluation": {"every": 0},
    "rounds": 1,
}

OF_STEPS = ("train_loss_first", "train_loss_last", "tokens", "tokens_per_s", "peak_memory_bytes")
"""What the company keeps to itself, so that whatever is stored of it is the owner's."""


@dataclass
class Service:
    """A coordinator, its operator, an owner's agent, and two agents that the operator enrolled to keep it company."""

    operator: Operator
    agent: QuickAgent
    company: list[ScriptedAgent]

    def create(self, name: str, **changes: Any) -> str:
        sections = {key: CAMPAIGN[key] | value if isinstance(value, dict) else value for key, value in changes.items()}  # type: ignore[operator]
        return str(self.operator.post("/v1/campaigns", {"name": name, **CAMPAIGN, **sections})["id"])

    def told(self, campaign_id: str) -> str | None:
        """What the operator reads about the owner's part."""
        campaign = self.operator.get(f"/v1/campaigns/{campaign_id}")
        [reason] = [each["reason"] for each in campaign["participants"] if each["agent_name"] == "ada"] or [None]
        return reason


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    coordinator = QuickCoordinator(folder / "coordinator")
    home = folder / "ada"
    enroll(home, coordinator.url, coordinator.operator.token(), "ada")
    settings = f'{DATA}[compute]\nthreads = 1\n[models]\n"org/tiny" = "{model}"\n[policy]\naccept = "any"\n'
    (home / "agent.toml").write_text(settings)
    (home / "patients.jsonl").write_text(lines(ROWS))
    (home / "held-out.jsonl").write_text(lines(HELD_OUT))
    agent = QuickAgent(home)
    with ended(coordinator, agent):
        agent.start()
        token = coordinator.operator.token
        company = [ScriptedAgent(coordinator.url, token(), name) for name in ("bob", "cyd")]
        yield Service(coordinator.operator, agent, company)
        for each in company:
            each.http.close()


def test_small_campaigns_are_refused_one_by_one_with_their_keys(service: Service) -> None:
    ids = [
        service.create(f"small-{n}", training={"steps": 1, "batch_size": 1, "max_length": n}, selection={"minimum": 1})
        for n in range(96, 88, -1)
    ]
    for campaign_id in ids:
        said = wait_until(lambda campaign_id=campaign_id: service.told(campaign_id), "the refusal", 60)
        for words in (
            "training.batch_size is 1, and policy.batch_size = [8, 512]",
            "an update would stand on 1 distinct row, and policy.min_rows = 40",
            "selection.minimum is 1, so the campaign may start with so few clients, and policy.min_participants = 3",
        ):
            assert words in said
        assert service.operator.items(f"/v1/campaigns/{campaign_id}/metrics") == []
        service.operator.campaign(campaign_id, "cancel")
    assert OwnerRecord(service.agent.home).bookings.of_pool(1).n_trainings == 0


def test_few_campaigns_use_the_same_rows_and_no_single_loss_is_stored(service: Service, tmp_path: Path) -> None:
    ids = [run(service, f"cut-{96 - n}", tmp_path, training={"max_length": 96 - n}) for n in range(3)]
    for campaign_id in ids:
        stored = {each["name"] for each in service.operator.items(f"/v1/campaigns/{campaign_id}/metrics")}
        assert "train_loss_mean" in stored
        assert not stored.intersection(OF_STEPS)
    fourth = service.create("cut-93", training={"max_length": 93})
    words = "it is campaign 4 in 30 days that uses these rows, and policy.max_campaigns = 3"
    said = wait_until(lambda: service.told(fourth), "the refusal of the fourth campaign", 60)
    service.operator.campaign(fourth, "cancel")
    assert words in said
    assert words in service.agent.process.printed()
    assert OwnerRecord(service.agent.home).bookings.of_campaign(fourth).n_trainings == 0


def test_an_operators_key_reads_no_update_neither_of_an_open_round_nor_later(service: Service, tmp_path: Path) -> None:
    """The owner's record names the digest, which lineage shows to the operator as well."""
    seen: list[str] = []

    def meanwhile() -> None:
        seen.extend(each["sha256"] for each in sent(service.agent.home, "delta") if each["sha256"] not in seen)

    settings = service.agent.home / "agent.toml"
    settings.write_text(settings.read_text() + "max_campaigns = 20\n")
    meanwhile()
    earlier = [*seen]
    training = {"learning_rate": 0.05}  # so that the update is another one than those before
    check = partial(_refused_blob, service, meanwhile, seen, earlier)
    campaign_id = run(service, "read", tmp_path, check, training=training)
    [_, *adapters] = service.operator.items(f"/v1/campaigns/{campaign_id}/adapters")
    assert len(adapters) == 1
    for digest in seen:
        assert problem(service.operator.http.get(f"/v1/blobs/{digest}")).status in (403, 404)


def _refused_blob(service: Service, look: Callable[[], None], seen: list[str], earlier: list[str]) -> None:
    """Wait until an update of the open round is stored, and have it refused."""

    def refused() -> str | None:
        look()
        for digest in set(seen) - set(earlier):
            reply = service.operator.http.get(f"/v1/blobs/{digest}")
            assert not reply.is_success
            if reply.status_code == 403:
                return str(problem(reply).detail)
        return None

    said = wait_until(refused, "the update of the open round", 60)
    assert said == "single updates are read by aggregation and verification alone"


def prepare(service: Service, campaign_id: str) -> None:
    """Let the owner's agent prepare, and the company say the same."""
    record = OwnerRecord(service.agent.home).campaigns

    def fingerprint() -> dict[str, str] | None:
        known = record.find(campaign_id)
        return known.prepared.fingerprint.model_dump() if known is not None and known.prepared is not None else None

    found = wait_until(fingerprint, f"the preparation of {campaign_id}", 60)
    for each in service.company:
        each.prepare(fingerprint=found, n_train=60)


def run(service: Service, name: str, folder: Path, meanwhile: Callable[[], None] = lambda: None, **changes: Any) -> str:
    """A campaign of one round, in which the company's updates are zero, so that the owner's is the whole difference.

    meanwhile: called while the round is open.
    """
    campaign_id = service.create(name, **changes)
    prepare(service, campaign_id)
    adapters = f"/v1/campaigns/{campaign_id}/adapters"
    [first] = wait_until(lambda: service.operator.items(adapters), "adapter 0", 60)
    path = folder / "start.safetensors"
    path.write_bytes(service.operator.http.get(f"/v1/blobs/{first['blob']['sha256']}").content)
    with AdapterFile(path) as file:
        zeros = {key: np.zeros_like(file.read(key)) for key in file.tensors}
    write_adapter(path, zeros)
    meanwhile()
    for each in service.company:
        each.train(path.read_bytes(), **dict.fromkeys(OF_STEPS))
    done = service.operator.wait_for(campaign_id, "completed", "paused", "failed", timeout_s=60)
    assert done["state"] == "completed", done["reason"]
    return campaign_id
