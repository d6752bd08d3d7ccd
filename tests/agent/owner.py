"""An owner's side without network and child: what an agent admits, and what its record holds afterwards."""

from pathlib import Path
from typing import Any

import pytest

from agent.acceptance import Acceptance
from agent.admission import Admission, Admitted
from agent.configuration.open_policy import opened
from agent.configuration.policy import PolicySettings
from agent.configuration.settings import AgentSettings
from agent.data.digest_cache import DigestCache
from agent.errors import TaskFailed
from agent.ledger.ledger import Ledger
from agent.orders.job import Done
from agent.orders.jobs import TrainJob
from agent.record.campaigns import Decider, Decision, KnownCampaign
from agent.record.record import OwnerRecord
from shared.campaign.spec import CampaignSpec
from shared.wire.tasks.assignments import Assignment
from shared.wire.tasks.leases import Failure, FailureKind
from shared.wire.tasks.results import PrepareResult, TrainResult
from tests.agent.parts import FINGERPRINT, SHA, prepare_assignment, train_assignment
from tests.support.messages import training_metrics

URL = "https://coordinator.example"


class Owner:
    """A home with a record and the data set "notes". ``asked`` has the campaigns that waited for the owner.

    Args:
        home: the home folder.
        policy: keys of ``[policy]``; the others are open.
    """

    def __init__(self, home: Path, **policy: Any) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.notes = home / "notes.jsonl"
        if not self.notes.exists():
            self.notes.write_text('{"prompt": "q", "completion": "a"}\n')
        self.record = OwnerRecord(home)
        self.record.create()
        self.asked: list[KnownCampaign] = []
        self._acceptance = Acceptance(self.record.campaigns, URL, "a", self.asked.append)
        self.admission = Admission(
            self.record, self._acceptance, DigestCache(home / "digests.json"), Ledger(home / "ledger")
        )
        self.settings = AgentSettings.model_validate({"data": {"notes": {"path": self.notes}}})
        self.change(policy=opened(PolicySettings(**policy)))

    def change(self, **settings: Any) -> None:
        """Change tables of agent.toml."""
        self.settings = self.settings.model_copy(update=settings)

    def change_data(self, **keys: Any) -> None:
        """Change keys of the data set."""
        notes = self.settings.data["notes"].model_copy(update=keys)
        self.change(data=self.settings.data | {"notes": notes})

    def admit(self, task: Assignment) -> Admitted:
        return self.admission.admit(self.settings, task)

    def remind(self) -> list[KnownCampaign]:
        """What an agent reminds of when it starts."""
        reminded: list[KnownCampaign] = []
        self._acceptance.remind(self.settings, reminded.append)
        return reminded

    def review(self) -> None:
        """What a running agent does now and then."""
        self._acceptance.review(self.settings)

    def refusal(self, task: Assignment) -> Failure:
        """Why a task is not admitted."""
        with pytest.raises(TaskFailed) as caught:
            self.admit(task)
        return caught.value.failure

    def mismatch(self, task: Assignment) -> str:
        """The words of a refusal because of the contract."""
        failure = self.refusal(task)
        assert failure.kind is FailureKind.CONTRACT_MISMATCH
        return failure.message

    def by_policy(self, task: Assignment) -> str:
        """The words of a refusal by policy, without their common beginning."""
        failure = self.refusal(task)
        assert failure.kind is FailureKind.REFUSED_BY_POLICY
        assert failure.message.startswith("refused by this agent's policy: ")
        return failure.message.removeprefix("refused by this agent's policy: ")

    def decide(self, decision: Decision, campaign_id: str = "c1") -> None:
        known = self.known(campaign_id)
        assert self.record.campaigns.decide(known, decision, Decider.OWNER)

    def known(self, campaign_id: str = "c1") -> KnownCampaign:
        known = self.record.campaigns.find(campaign_id)
        assert known is not None
        return known

    def prepare(self, spec: CampaignSpec | None = None, campaign_id: str = "c1", **counts: Any) -> None:
        """Do a prepare task. counts: those of the result, and ``n_distinct``."""
        task = prepare_assignment(spec, campaign_id=campaign_id)
        counts = {"n_train": 100, "n_held_out": 20, "fingerprint": FINGERPRINT, "rank": 2, **counts}
        n_distinct = counts.pop("n_distinct", counts["n_train"])
        n_held_out = counts.pop("n_distinct_held_out", counts["n_held_out"])
        result = PrepareResult.model_validate(counts)
        done = Done(result=result, n_distinct=n_distinct, n_distinct_held_out=n_held_out)
        self.admission.record_answer(self.settings, task, self.admit(task), done)

    def train(self, spec: CampaignSpec | None = None, **changes: Any) -> TrainJob:
        """Do a train task. Returns the job that the child got."""
        task = train_assignment(spec, **changes)
        admitted = self.admit(task)
        self.admission.check_not_gone(admitted)
        prepared = self.known(task.campaign_id).prepared
        assert prepared is not None
        done = Done(result=TrainResult(delta=SHA, metrics=training_metrics()), n_distinct=prepared.n_distinct)
        self.admission.record_answer(self.settings, task, admitted, done)
        assert isinstance(admitted.job, TrainJob)
        return admitted.job
