"""Passes the owner's decisions on to the coordinator, whichever of the two was away when they were made.

The record is what counts. Whenever the agent looks at its campaigns, it compares the record with what the coordinator
knows of its part, and says what differs. So no decision is lost, and there is nothing to keep of what was said.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from agent.acceptance import WORDS
from agent.errors import CoordinatorRefused, CoordinatorUnreachable
from agent.network.api import CoordinatorApi
from agent.record.campaigns import CampaignRecord, Decision, KnownCampaign
from shared.states import ParticipantState
from shared.wire.agents import OwnCampaign, Part

log = logging.getLogger(__name__)

P = ParticipantState

PARTS: Mapping[Decision, Part] = {
    Decision.ACCEPTED: Part.TAKES_PART,
    **{decision: word.part for decision, word in WORDS.items() if word.part is not None},
}
"""What the coordinator is told of each decision. Of a campaign that waits, each of its tasks is told."""
_UNHEARD: Mapping[Part, frozenset[ParticipantState]] = {
    Part.TAKES_PART: frozenset({P.WAITING, P.PAUSED, P.LEFT}),
    Part.PAUSED: frozenset({P.PREPARING, P.PREPARED}),
    Part.LEFT: frozenset(P) - {P.LEFT},
}
"""The states by which the coordinator has not heard what the owner wants."""
_OF_FORGOTTEN = frozenset({P.WAITING, P.PAUSED, P.PREPARED})
"""The states of a campaign that was accepted or waits, which nobody here knows any more."""


class OwnersWord:
    """Says to the coordinator what it has not heard."""

    def __init__(self, api: CoordinatorApi, record: CampaignRecord) -> None:
        self._api = api
        self._record = record
        self._since = datetime.now(UTC)
        self._retried: set[tuple[str, datetime | None]] = set()

    async def pass_on(self, campaigns: Iterable[OwnCampaign]) -> None:
        """Pass on what the owner decided about campaigns that are not over. Failed requests are made again next time.

        campaigns: as the coordinator knows them.
        """
        for campaign in campaigns:
            known = self._record.find(campaign.id)
            part = None if campaign.state.is_final else unheard(known, campaign)
            if part is None and known is not None and self._is_retried(known, campaign):
                part = Part.TAKES_PART
            if part is None:
                continue
            try:
                await self._api.set_part(campaign.id, part)
            except (CoordinatorRefused, CoordinatorUnreachable) as error:
                log.debug("the coordinator was not told %s of campaign %s: %s", part, campaign.name, error)
            else:
                log.info("told the coordinator what its owner decided about campaign %s: %s", campaign.name, part)

    def _is_retried(self, known: KnownCampaign, campaign: OwnCampaign) -> bool:
        """Whether an acceptance asks for one more try of a campaign that failed here, as one that settings refused."""
        key = (known.id, known.decided_at)
        is_new = known.decided_at is not None and known.decided_at > self._since and key not in self._retried
        if known.decision is not Decision.ACCEPTED or campaign.participant is not P.FAILED or not is_new:
            return False
        self._retried.add(key)
        return True


def unheard(known: KnownCampaign | None, campaign: OwnCampaign) -> Part | None:
    """What the coordinator has to be told of a campaign; None if nothing.

    Args:
        known: the campaign in the record; None if its owner had it forgotten, or it was never asked about.
        campaign: the same as the coordinator knows it.
    """
    if known is None:
        return Part.LEFT if campaign.participant in _OF_FORGOTTEN else None
    part = PARTS.get(known.decision)
    return part if part is not None and campaign.participant in _UNHEARD[part] else None
