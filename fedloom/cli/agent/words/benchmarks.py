"""Which public benchmarks of a campaign run at an owner, which do not and why, and what they gave."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from agent.benchmarks.interface import Available
    from agent.configuration.settings import AgentSettings
    from agent.record.record import OwnerRecord
    from shared.campaign.spec import CampaignSpec


def benchmarks_here_of(settings: "AgentSettings", spec: "CampaignSpec") -> "Available":
    """What of a campaign's benchmarks would be offered by these settings and with the data that is here."""
    from agent.benchmarks.available import available
    from fedloom.evaluation.campaigns.here import benchmarks_here

    return available(settings, spec.evaluation, benchmarks_here)


def benchmark_lines(available: "Available") -> Iterator[str]:
    """A line for each benchmark: whether it runs here, on how many items, or why it does not."""
    for each in available.offered:
        items = f"{each.n_items:,} of {each.n_published:,} items"
        yield f"benchmark {each.name} would run here, on {items}"
    for name, reason in available.reasons.items():
        yield visible_line(f"benchmark {name} would not run here: {reason}")


def benchmarks_as_json(available: "Available") -> list[dict[str, Any]]:
    """The same for scripts."""
    run = [{**each.model_dump(), "not_run": ""} for each in available.offered]
    return [*run, *({"name": name, "not_run": reason} for name, reason in available.reasons.items())]


def score_lines(record: "OwnerRecord", campaign_id: str) -> list[str]:
    """What benchmarks gave of each adapter of a campaign, a line each."""
    from agent.owner.results import score_in_words

    return [
        visible_line(f"adapter {number}, {score.name}: {score_in_words(score)}")
        for number, scores in record.benchmarks.latest(campaign_id).items()
        for score in scores
    ]
