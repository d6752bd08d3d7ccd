"""Campaign files as the database has them, parsed once for each of their values."""

from typing import Any

from sqlalchemy.util import LRUCache

from shared.campaign.sections import FROM_COORDINATOR
from shared.campaign.spec import CampaignSpec

_PARSED: LRUCache[str, tuple[dict[str, Any], CampaignSpec]] = LRUCache(200)
"""What is stored and what it is parsed to, by the campaign's id."""


def parsed_spec(campaign_id: str, spec_json: dict[str, Any]) -> CampaignSpec:
    """A campaign file. It is shared: change no part of it."""
    parsed = _PARSED.get(campaign_id)
    if parsed is None or parsed[0] != spec_json:
        # without the checks of a new campaign: a plug-in that is missing now must not hide the campaign
        spec = CampaignSpec.model_validate(spec_json, context=FROM_COORDINATOR)
        parsed = _PARSED[campaign_id] = spec_json, spec
    return parsed[1]
