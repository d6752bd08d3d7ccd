"""All that the owner's settings refuse of a campaign, by what is known of it now, before any work."""

from collections.abc import Callable
from pathlib import Path

from agent.configuration.settings import AgentSettings
from agent.data.identity import identity_of
from agent.policy.campaign_rules import campaign_refusals
from agent.policy.data_rules import source_refusals
from agent.policy.refusals import Refusal
from agent.policy.work_rules import quota_refusals, total_refusals
from agent.record.bookings import Bookings
from agent.record.campaigns import KnownCampaign
from shared.campaign.spec import CampaignSpec
from shared.digest import sha256_file


def standing_refusals(settings: AgentSettings, bookings: Bookings, known: KnownCampaign) -> list[Refusal]:
    """What the settings refuse of a known campaign: its specification, its data, its counted rows, one more round.

    Each setting is named once.
    """
    policy, spec, prepared = settings.policy, known.spec, known.prepared
    refusals = campaign_refusals(settings, spec, prepared, mixes_ranks=known.terms.mixes_ranks)
    refusals += source_refusals(settings, spec, known.id, known.spec_sha256)
    if prepared is not None and bookings.rounds_trained(known.id) < spec.rounds:
        n_rows = spec.training.steps_for(prepared.n_train) * spec.training.batch_size
        refusals += total_refusals(policy, bookings.of_campaign(known.id), prepared, n_rows)
    refusals += quota_refusals(policy, bookings, known.id, pools_of(settings, bookings, spec.data.name))
    return [*{refusal.key: refusal for refusal in reversed(refusals)}.values()][::-1]


def refusals_of_file(
    settings: AgentSettings, bookings: Bookings, spec: CampaignSpec, spec_sha256: str
) -> list[Refusal]:
    """What the settings refuse of a campaign that was not created yet. A table that is bound to ids refuses it."""
    refusals = campaign_refusals(settings, spec)
    refusals += source_refusals(settings, spec, "", spec_sha256)
    refusals += quota_refusals(settings.policy, bookings, "", pools_of(settings, bookings, spec.data.name))
    return refusals


def pools_of(
    settings: AgentSettings, bookings: Bookings, data: str, digest: Callable[[Path], str] = sha256_file
) -> list[int]:
    """The pools of rows that a data source reads; none if no campaign used them, or they cannot be read.

    Args:
        settings: the owner's.
        bookings: what was done.
        data: the name of the data source.
        digest: gives a file's SHA-256.
    """
    source = settings.data.get(data)
    try:
        return bookings.pools_known(identity_of(source, digest)) if source is not None else []
    except OSError:
        return []
