"""What becomes of the campaigns that this agent works for, told on the owner's terminal."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from agent.errors import CoordinatorRefused, CoordinatorUnreachable
from agent.network.api import CoordinatorApi
from agent.orders.jobs import EvaluateJob, TrainJob
from agent.policy.disclosure import evaluation_refusals
from agent.policy_settings import PolicySettings
from shared.metrics import HELD_OUT_COUNTS, LOSSES_OF_STEPS, TRAIN_LOSS_MEAN, Metric, Weight
from shared.states import CampaignState
from shared.wire.agents import OwnCampaign
from shared.wire.results import EvaluateResult, PrepareResult, TrainResult

log = logging.getLogger(__name__)

_BEFORE_ROUNDS = (CampaignState.PREPARING, CampaignState.INITIALIZING)


class CampaignNews:
    """Follows this agent's campaigns by asking now and then. Without an answer it tells nothing.

    on_look: called with what the coordinator answered.
    """

    def __init__(
        self, api: CoordinatorApi, on_look: Callable[[Sequence[OwnCampaign]], Awaitable[None]] | None = None
    ) -> None:
        self._api = api
        self._on_look = on_look
        self._known: dict[str, CampaignState] | None = None

    def follow(self, campaign_id: str) -> None:
        """Expect news of a campaign, because a task of it came."""
        self._states.setdefault(campaign_id, CampaignState.PREPARING)

    async def look(self) -> None:
        """Tell what changed since the last look. Asks nothing if all known campaigns are over."""
        if self._known is None or not all(state.is_final for state in self._known.values()):
            await self._ask()

    async def tell_round(self, job: TrainJob, measured: TrainResult, sent: TrainResult, n_bytes: int) -> None:
        """Tell what this agent did in a round, and what its last update weighed.

        Args:
            job: the train task.
            measured: the result with everything that was measured.
            sent: what of it was sent.
            n_bytes: bytes of the files that were sent.
        """
        campaign = (await self._ask()).get(job.campaign_id)
        of = f" of {campaign.rounds}" if campaign is not None else ""
        rows = f" on {campaign.n_train} rows" if campaign is not None and campaign.n_train is not None else ""
        weight = ""
        if campaign is not None and campaign.update_weight is not None:
            weight = f"; its update of round {campaign.update_round} weighed {campaign.update_weight:.0%}"
        loss = _loss(measured, sent)
        steps = f"{job.steps} step{'' if job.steps == 1 else 's'}"
        log.info("round %d%s: trained %s%s%s, sent %s%s", job.round, of, steps, rows, loss, size(n_bytes), weight)

    @property
    def _states(self) -> dict[str, CampaignState]:
        if self._known is None:
            self._known = {}
        return self._known

    async def _ask(self) -> dict[str, OwnCampaign]:
        """Ask for this agent's campaigns, and tell what changed. Returns them by id; {} without an answer."""
        try:
            campaigns = (await self._api.own_campaigns()).campaigns
        except (CoordinatorRefused, CoordinatorUnreachable) as error:
            log.debug("no news of campaigns: %s", error)  # the next request for work meets the same, and says so
            return {}
        is_first = self._known is None
        for campaign in campaigns:
            before = self._states.get(campaign.id)
            self._states[campaign.id] = campaign.state
            if before is not campaign.state and not (is_first and campaign.state.is_final):
                _tell(campaign, before)
        if self._on_look is not None:
            await self._on_look(campaigns)
        return {campaign.id: campaign for campaign in campaigns}


def _tell(campaign: OwnCampaign, before: CampaignState | None) -> None:
    rounds = f"{campaign.rounds_closed} round{'' if campaign.rounds_closed == 1 else 's'}"
    match campaign.state:
        case CampaignState.COMPLETED | CampaignState.CANCELLED:
            words = f"{campaign.state} after {rounds}"
        case CampaignState.PAUSED:
            words = f"paused after {campaign.rounds_closed} of {campaign.rounds} rounds, until the operator resumes it"
        case CampaignState.RUNNING if before is None or before in _BEFORE_ROUNDS:
            words = f"running, {campaign.rounds_closed} of {campaign.rounds} rounds are done"
        case _ if before is CampaignState.PAUSED:
            words = "resumed"
        case _:
            return
    log.info("campaign %s: %s", campaign.name, words)


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


def tell_evaluation(job: EvaluateJob, measured: EvaluateResult, metrics: Mapping[str, Metric]) -> None:
    """Tell what was measured in an evaluation. metrics: those of the kind, by name."""
    averaged = [metric for metric in metrics.values() if metric.weight is not None and metric.name in measured.metrics]
    values = ", ".join(f"{each.title} {each.with_unit(measured.metrics[each.name])}" for each in averaged)
    log.info("adapter %d on %d held-out rows: %s", job.round, measured.metrics[HELD_OUT_COUNTS[Weight.ROWS]], values)


def tell_prepared(result: PrepareResult, policy: PolicySettings) -> None:
    """Tell what is not read of the rows, and why the agent evaluates no adapter if it does not."""
    for notice in result.notices:
        log.info("%s", notice)
    if result.n_held_out and (refusals := evaluation_refusals(policy, result.n_held_out)):
        log.info("this agent takes part in no evaluation: %s", "; ".join(map(str, refusals)))


def size(n_bytes: int) -> str:
    """A number of bytes for a log."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:.1f} kB"
