"""What becomes of the campaigns that this agent works for, told on the owner's terminal."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from agent.errors import CoordinatorRefused, CoordinatorUnreachable
from agent.network.api import CoordinatorApi
from agent.network.changes import changes, own_weight
from agent.orders.jobs import TrainJob
from shared.metrics import LOSSES_OF_STEPS, TRAIN_LOSS_MEAN
from shared.text.quantities import size
from shared.wire.agents import OwnCampaign
from shared.wire.tasks.results import TrainResult

log = logging.getLogger(__name__)


class CampaignNews:
    """Follows this agent's campaigns: by what results are answered with, and by asking now and then.

    Args:
        api: the connection to the coordinator.
        on_look: called with what the coordinator answered.
        on_end: called with a campaign that is over, once.
    """

    def __init__(
        self,
        api: CoordinatorApi,
        on_look: Callable[[Sequence[OwnCampaign]], Awaitable[None]] | None = None,
        on_end: Callable[[OwnCampaign], None] | None = None,
    ) -> None:
        self._api = api
        self._on_look = on_look
        self._on_end = on_end
        self._known: dict[str, OwnCampaign | None] | None = None

    def follow(self, campaign_id: str) -> None:
        """Expect news of a campaign, because a task of it came."""
        self._seen.setdefault(campaign_id, None)

    async def look(self) -> None:
        """Tell what changed since the last look. Asks nothing if all known campaigns are over."""
        if self._known is None or not all(each is not None and each.state.is_final for each in self._known.values()):
            try:
                campaigns = await self._api.own_campaigns()
            except (CoordinatorRefused, CoordinatorUnreachable) as error:
                log.debug("no news of campaigns: %s", error)  # the next request for work meets the same, and says so
            else:
                await self.take(campaigns.campaigns)

    def tell_round(self, job: TrainJob, measured: TrainResult, sent: TrainResult, n_bytes: int) -> None:
        """Tell what this agent did in a round, and what its last update weighed as far as is known.

        Args:
            job: the train task.
            measured: the result with everything that was measured.
            sent: what of it was sent.
            n_bytes: bytes of the files that were sent.
        """
        campaign = self._seen.get(job.campaign_id)
        of = f" of {campaign.rounds}" if campaign is not None else ""
        rows = f" on {campaign.n_train} rows" if campaign is not None and campaign.n_train is not None else ""
        weight = own_weight(campaign) if campaign is not None else ""
        loss = _loss(measured, sent)
        steps = f"{job.steps} step{'' if job.steps == 1 else 's'}"
        log.info("round %d%s: trained %s%s%s, sent %s%s", job.round, of, steps, rows, loss, size(n_bytes), weight)

    @property
    def _seen(self) -> dict[str, OwnCampaign | None]:
        """The campaigns by id as they were last seen; None for one that was not yet."""
        if self._known is None:
            self._known = {}
        return self._known

    async def take(self, campaigns: Sequence[OwnCampaign]) -> None:
        """Take in what the coordinator says of this agent's campaigns, and tell what changed."""
        is_first = self._known is None
        for campaign in campaigns:
            before = self._seen.get(campaign.id)
            self._seen[campaign.id] = campaign
            if is_first and campaign.state.is_final:
                continue
            for words in changes(before, campaign):
                log.info("campaign %s: %s", campaign.name, words)
            if campaign.state.is_final and (before is None or not before.state.is_final) and self._on_end is not None:
                self._on_end(campaign)
        if self._on_look is not None:
            await self._on_look(campaigns)


def _loss(measured: TrainResult, sent: TrainResult) -> str:
    """The course of the loss, and what of it was sent unless all was."""
    first, last = (measured.metrics.get(name) for name in LOSSES_OF_STEPS)
    if first is None or last is None:
        return ""
    if sent.metrics.keys() >= set(LOSSES_OF_STEPS):
        note = ""
    elif TRAIN_LOSS_MEAN in sent.metrics:
        note = f" (sent: the mean, {sent.metrics[TRAIN_LOSS_MEAN]:g})"
    else:
        note = " (not sent)"
    return f", loss {first:.2f} -> {last:.2f}{note}"
