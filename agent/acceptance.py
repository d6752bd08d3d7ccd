"""Acceptance: a campaign is accepted once, by the digest of its whole specification, by the owner or its rules."""

import logging
from collections.abc import Callable, Mapping

from agent.base_names import check_campaign_base
from agent.configuration.settings import AgentSettings
from agent.contract import mismatch
from agent.errors import TaskFailed
from agent.policy.accepting import accepts_by_rule
from agent.policy.campaign_rules import campaign_refusals
from agent.policy.refusals import refuse
from agent.record.campaigns import CampaignRecord, Decider, Decision, KnownCampaign, Terms
from shared.campaign.digest import spec_sha256
from shared.owners_word import Word
from shared.wire.tasks.assignments import Assignment, PrepareAssignment

log = logging.getLogger(__name__)

WORDS: Mapping[Decision, Word] = {
    Decision.WAITING: Word.WAITS,
    Decision.REFUSED: Word.REFUSED,
    Decision.PAUSED: Word.PAUSED,
    Decision.LEFT: Word.LEFT,
}
"""What the coordinator hears of each decision by which no work is done."""


class Acceptance:
    """Decides about campaigns, by the record and the settings.

    Args:
        record: the campaigns that are known.
        coordinator: URL of the coordinator that asks.
        agent_id: this agent's id there.
        on_waiting: called once with each campaign that waits for its owner, and that no setting refuses.
    """

    def __init__(
        self, record: CampaignRecord, coordinator: str, agent_id: str, on_waiting: Callable[[KnownCampaign], None]
    ) -> None:
        self._record = record
        self._coordinator = coordinator
        self._agent_id = agent_id
        self._on_waiting = on_waiting
        self._told: set[tuple[str, str]] = set()

    def require_accepted(self, settings: AgentSettings, task: Assignment) -> KnownCampaign:
        """The accepted campaign of a task.

        Raises TaskFailed: refused-by-policy, contract-mismatch, waiting-for-owner and the like.
        """
        if isinstance(task, PrepareAssignment):  # before anything that its words might tell of this machine
            check_campaign_base(task.spec.base, is_mapped=task.spec.base.model in settings.models)
        known = self._asked(task) if isinstance(task, PrepareAssignment) else self._known(task)
        refuse(campaign_refusals(settings, known.spec, mixes_ranks=known.terms.mixes_ranks))
        if known.decision is Decision.WAITING:
            known = self._settle(settings, known)
        if known.decision is not Decision.ACCEPTED:
            word = WORDS[known.decision]
            raise TaskFailed(word.failure, word.text)
        return known

    def _known(self, task: Assignment) -> KnownCampaign:
        known = self._record.find(task.campaign_id)
        if known is None or known.terms.agent_id != self._agent_id:
            raise mismatch("campaign_id", "this agent was not asked to accept this campaign, or has forgotten it")
        if known.spec_sha256 != task.spec_sha256:
            raise mismatch("spec_sha256", f"it is not {known.spec_sha256[:12]}…, which was accepted")
        return known

    def waiting(self, settings: AgentSettings) -> list[KnownCampaign]:
        """The campaigns that wait for their owner now, without those that the settings refuse."""
        return [
            known
            for known in self._record.waiting()
            if known.terms.agent_id == self._agent_id
            and not campaign_refusals(settings, known.spec, mixes_ranks=known.terms.mixes_ranks)
        ]

    def remind(self, settings: AgentSettings, tell: Callable[[KnownCampaign], None]) -> None:
        """Tell of what has waited since an earlier run; its owner was asked then, and nobody is asked twice."""
        for known in self.waiting(settings):
            self._told.add((known.id, known.spec_sha256))
            tell(known)

    def review(self, settings: AgentSettings) -> None:
        """Look again at what waits: the settings may have changed, so that they accept it, or no longer refuse it."""
        for known in self.waiting(settings):
            self._settle(settings, known)

    def _asked(self, task: PrepareAssignment) -> KnownCampaign:
        """The campaign that an agent is asked to prepare for, noted if it is new or has changed."""
        if spec_sha256(task.spec, task.created_on) != task.spec_sha256:
            message = "it is not the digest of the specification that came with it"
            raise mismatch("spec_sha256", f"{message}; agent and coordinator may be of different versions")
        known = self._record.find(task.campaign_id)
        if known is not None and known.terms.agent_id == self._agent_id:
            if known.spec_sha256 == task.spec_sha256:
                return known
            log.warning("campaign %s has another specification than before, and must be accepted again", known.name)
        terms = Terms(
            agent_id=self._agent_id,
            created_on=task.created_on,
            plain_client=task.plain_client,
            mixes_ranks=task.mixes_ranks,
            participants=task.participants,
            n_participants=task.n_participants,
        )
        self._record.add(task.campaign_id, self._coordinator, task.spec_sha256, task.spec, terms)
        noted = self._record.find(task.campaign_id)
        assert noted is not None
        return noted

    def _settle(self, settings: AgentSettings, waiting: KnownCampaign) -> KnownCampaign:
        """A campaign that waits, accepted if the settings do so; otherwise its owner is asked, once."""
        if accepts_by_rule(settings, waiting.spec_sha256, waiting.spec.data.name):
            self._record.decide(waiting, Decision.ACCEPTED, Decider.RULES)
        found = self._record.find(waiting.id) or waiting
        key = (found.id, found.spec_sha256)
        if found.decision is Decision.WAITING and key not in self._told:
            self._told.add(key)
            self._on_waiting(found)
        return found


def tell_waiting(campaign: KnownCampaign, home: str = "") -> None:
    """Log that a campaign waits, and what its owner can do. home: the option that names the home folder."""
    digest = campaign.spec_sha256
    see, refuse = (f"fedloom agent {verb} {digest}{home}" for verb in ("campaigns", "refuse"))
    approve = f"fedloom agent approve {digest} --yes{home}"
    message = "campaign %s (%s) waits for you: see it with %s, then type %s or %s"
    log.info(message, campaign.name, campaign.id, see, approve, refuse)
