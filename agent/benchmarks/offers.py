"""Tells the coordinator which public benchmarks of its campaigns this agent runs."""

import asyncio
import logging
from collections.abc import Iterable

from agent.benchmarks.available import available, made
from agent.benchmarks.interface import Benchmarks, MakeBenchmarks
from agent.configuration.settings import AgentSettings
from agent.errors import CoordinatorRefused, CoordinatorUnreachable
from agent.network.api import CoordinatorApi
from agent.network.retry import until_reached
from agent.record.campaigns import Decision, KnownCampaign
from agent.record.record import OwnerRecord
from shared.states import ParticipantState
from shared.wire.agents import OwnCampaign
from shared.wire.benchmarks import BenchmarkOffer

log = logging.getLogger(__name__)

_TAKES_PART = (ParticipantState.PREPARING, ParticipantState.PREPARED)


class BenchmarkOffers:
    """Offers what the owner's settings allow and this machine can run.

    Args:
        api: the connection to the coordinator.
        record: the owner's, which keeps the last offer of each campaign.
        make: makes what runs benchmarks; None if nothing does.
    """

    def __init__(self, api: CoordinatorApi, record: OwnerRecord, make: MakeBenchmarks | None) -> None:
        self._api = api
        self._record = record
        self._make = make
        self._explained: set[tuple[str, str, str]] = set()
        self._told_in: dict[str, int | None] = {}

    async def offer(self, settings: AgentSettings, campaign_id: str) -> None:
        """Say what this agent runs of a campaign that it prepares for, also if that is nothing.

        Raises CoordinatorRefused.
        """
        known = await asyncio.to_thread(self._record.campaigns.find, campaign_id)
        if known is None or not known.spec.evaluation.benchmarks:
            return
        offer = await asyncio.to_thread(self._offer, settings, known)
        await until_reached(lambda: self._api.offer_benchmarks(known.id, offer))
        await self._note(known, offer, None)
        if offer.benchmarks:
            log.info("offered to run on the adapters of campaign %s: %s", known.name, _names(offer))

    async def pass_on(self, settings: AgentSettings, campaigns: Iterable[OwnCampaign]) -> None:
        """Say what has changed for campaigns in which this agent takes part. Failed requests are made again next time.

        Args:
            settings: the owner's.
            campaigns: as the coordinator knows them.
        """
        for campaign in campaigns:
            if campaign.state.is_final or campaign.participant not in _TAKES_PART:
                continue
            known = await asyncio.to_thread(self._record.campaigns.find, campaign.id)
            if known is None or known.decision is not Decision.ACCEPTED or not known.spec.evaluation.benchmarks:
                continue
            before = await asyncio.to_thread(self._record.benchmarks.standing_offer, known.id)
            offer = await asyncio.to_thread(self._offer, settings, known)
            if offer == before and self._has_told(campaign):
                continue
            try:
                await self._api.offer_benchmarks(known.id, offer)
            except (CoordinatorRefused, CoordinatorUnreachable) as error:
                log.debug("the coordinator was not told which benchmarks run for campaign %s: %s", known.name, error)
                continue
            await self._note(known, offer, campaign.history)
            if offer != before:
                log.info("campaign %s: this agent now runs %s on its adapters", known.name, _names(offer) or "nothing")

    def _has_told(self, campaign: OwnCampaign) -> bool:
        """Whether this run has told its offer since the coordinator was last restored from a backup."""
        if campaign.id not in self._told_in:
            return False
        if self._told_in[campaign.id] is None:
            self._told_in[campaign.id] = campaign.history
        return self._told_in[campaign.id] == campaign.history

    async def _note(self, known: KnownCampaign, offer: BenchmarkOffer, history: int | None) -> None:
        """Note an offer that was sent. history: the campaign's; None while it is unknown."""
        self._told_in[known.id] = history
        await asyncio.to_thread(self._record.benchmarks.keep_offer, known.id, offer)

    def runner(self) -> Benchmarks:
        """What runs benchmarks. Raises TaskFailed (benchmark) if nothing here does."""
        return made(self._make)

    def _offer(self, settings: AgentSettings, known: KnownCampaign) -> BenchmarkOffer:
        found = available(settings, known.spec.evaluation, self._make)
        for name, reason in found.reasons.items():
            if (key := (known.id, name, reason)) not in self._explained:
                self._explained.add(key)
                log.info("campaign %s: benchmark %s is not offered: %s", known.name, name, reason)
        return BenchmarkOffer(benchmarks=[*found.offered])


def _names(offer: BenchmarkOffer) -> str:
    return ", ".join(each.name for each in offer.benchmarks)
