"""What was done with the owner's rows so far, by campaign and by data, and what the limits leave."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from fedloom.cli.agent.known import OwnersHome


class CampaignTotals(BaseModel):
    """The totals of one campaign. A limit that is not set leaves null."""

    id: str
    name: str
    trainings: int
    trainings_left: int | None
    rows: int
    passes: float | None
    """Passes over the rows; null until they are counted."""
    passes_left: float | None
    evaluations: int
    benchmarks: int
    """Runs of public benchmarks, each counted once for each adapter. They use no rows."""


class DataTotals(BaseModel):
    """The totals of one data source, over all campaigns that used the same rows."""

    name: str
    trainings: int
    rows: int
    evaluations: int
    campaigns_in_30_days: int
    campaigns_left: int | None


def of_campaigns(home: "OwnersHome") -> Iterator[CampaignTotals]:
    """The totals of each campaign that is known, the latest first."""
    policy = home.settings.policy
    for known in home.record.campaigns.all():
        done = home.record.bookings.of_campaign(known.id)
        passes = done.n_rows / max(1, known.prepared.n_train) if known.prepared is not None else None
        left = None
        if passes is not None and policy.max_epochs is not None:
            left = max(0.0, policy.max_epochs - passes)
        yield CampaignTotals(
            id=known.id,
            name=known.name,
            trainings=done.n_trainings,
            trainings_left=max(0, policy.max_rounds - done.n_trainings) if policy.max_rounds is not None else None,
            rows=done.n_rows,
            passes=passes,
            passes_left=left,
            evaluations=done.n_evaluations,
            benchmarks=home.record.benchmarks.count(known.id),
        )


def of_data(home: "OwnersHome") -> Iterator[DataTotals]:
    """The totals of each data source of the settings."""
    from agent.policy.verdict import pools_of
    from agent.policy.work_rules import CAMPAIGN_DAYS

    limit, bookings = home.settings.policy.max_campaigns, home.record.bookings
    for name in home.settings.data:
        pools = pools_of(home.settings, bookings, name)
        done = [bookings.of_pool(pool) for pool in pools]
        recent = set[str]().union(*(bookings.campaigns_of(pool, timedelta(days=CAMPAIGN_DAYS)) for pool in pools))
        yield DataTotals(
            name=name,
            trainings=sum(each.n_trainings for each in done),
            rows=sum(each.n_rows for each in done),
            evaluations=sum(each.n_evaluations for each in done),
            campaigns_in_30_days=len(recent),
            campaigns_left=max(0, limit - len(recent)) if limit is not None else None,
        )
