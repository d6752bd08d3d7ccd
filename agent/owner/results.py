"""Tells the owner on the agent's terminal what a campaign does for it: its own losses by round, and how it ended."""

import logging
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.configuration.policy import PolicySettings
from agent.owner.losses import OwnLosses, why_none
from agent.policy.disclosure import evaluation_refusals
from agent.record.record import OwnerRecord
from shared import benchmarks
from shared.agent_home import home_option
from shared.metrics import HELD_OUT_COUNTS, HELD_OUT_LOSS, Metric, Values, Weight
from shared.wire.agents import OwnCampaign
from shared.wire.benchmarks import BenchmarkScore
from shared.wire.tasks.results import BenchmarkResult, PrepareResult

log = logging.getLogger(__name__)


class OwnersResults:
    """What the record has for its owner.

    Args:
        home: the agent's home folder.
        record: the owner's.
        policy: the settings now.
    """

    def __init__(self, home: Path, record: OwnerRecord, policy: Callable[[], PolicySettings]) -> None:
        self._home = home
        self._record = record
        self._policy = policy
        self._told_none: set[str] = set()

    def tell_evaluation(self, campaign_id: str, number: int, sent: Values, metrics: Mapping[str, Metric]) -> None:
        """Tell what an adapter scored on the held-out rows, in full, and whether that is better than before.

        Args:
            campaign_id: the campaign.
            number: the adapter's.
            sent: what of it was sent, for what the record lacks.
            metrics: those of the kind, by name.
        """
        losses = OwnLosses.of(self._record, campaign_id, self._kind(campaign_id))
        found = losses.held_out.get(number)
        values = found.metrics if found is not None else sent
        averaged = [each for each in metrics.values() if each.weight is not None and each.name in values]
        averaged.sort(key=lambda metric: metric.name != HELD_OUT_LOSS)
        words = [f"{each.title} {each.with_unit(values[each.name])}" for each in averaged]
        words[:1] = [f"{words[0]}{losses.course(number)}"] if words else []
        log.info("adapter %d on %d held-out rows: %s", number, values[HELD_OUT_COUNTS[Weight.ROWS]], "; ".join(words))

    def tell_benchmarks(self, number: int, result: BenchmarkResult) -> None:
        """Tell what public benchmarks gave of an adapter. number: the adapter's."""
        for score in result.scores:
            log.info("adapter %d, %s: %s", number, score.name, score_in_words(score))

    def tell_prepared(self, campaign_id: str, result: PrepareResult) -> None:
        """Tell what is not read of the rows, and once why no losses of its own will be known."""
        for notice in result.notices:
            log.info("%s", notice)
        known, policy = self._record.campaigns.find(campaign_id), self._policy()
        if known is None or campaign_id in self._told_none:
            return
        n_distinct = known.prepared.n_distinct_held_out if known.prepared is not None else result.n_held_out
        evaluates = known.spec.evaluation.every > 0 and result.n_held_out > 0
        if not evaluates or evaluation_refusals(policy, n_distinct):
            self._told_none.add(campaign_id)
            log.info("this agent takes part in no evaluation: %s; so no own losses are known", why_none(known, policy))

    def tell_end(self, campaign: OwnCampaign) -> None:
        """Tell the own losses of a campaign that is over, by round, and how to get its adapter."""
        known = self._record.campaigns.find(campaign.id)
        if known is None or self._record.bookings.rounds_trained(campaign.id) == 0:
            return
        losses = OwnLosses.of(self._record, campaign.id, known.spec.kind)
        best = losses.best()
        if best is None:
            log.info("campaign %s: no own losses are known: %s", campaign.name, why_none(known, self._policy()))
            log.info("get its adapter with: %s", self._pull(campaign))
            return
        for line in losses.table():
            log.info("  %s", line)
        log.info("adapter %d is the best for this owner%s; get it with:", best, losses.course(best))
        log.info("  %s", self._pull(campaign, "--adapter", "best-for-me"))

    def _pull(self, campaign: OwnCampaign, *options: str) -> str:
        """The command that gets an adapter of a campaign: by its id where others have its name."""
        named = campaign.name if len(self._record.campaigns.named(campaign.name)) == 1 else campaign.id
        return shlex.join(["fedloom", "agent", "pull", named, *options]) + home_option(self._home)

    def _kind(self, campaign_id: str) -> str:
        known = self._record.campaigns.find(campaign_id)
        return known.spec.kind if known is not None else ""


def score_in_words(score: BenchmarkScore) -> str:
    """What a benchmark gave, in a line: ``acc 61.20% on 250 of 250 items``."""
    if score.not_run:
        return f"no number: {score.not_run}"
    metrics = {metric.name: metric for metric in benchmarks.benchmarks()[score.name].metrics}
    known = [(name, metrics[name]) for name in score.values if name in metrics]
    values = [f"{name.partition('.')[2]} {metric.with_unit(score.values[name])}" for name, metric in known]
    return f"{', '.join(values)} on {score.n:,} of {score.n_asked:,} items"
