"""Campaign files as the database has them, parsed and hashed once for each of their values."""

from datetime import date
from typing import Any

from sqlalchemy.util import LRUCache

from shared.campaign.digest import spec_sha256
from shared.campaign.sections import FROM_COORDINATOR
from shared.campaign.spec import CampaignSpec

_PARSED: LRUCache[str, tuple[dict[str, Any], CampaignSpec]] = LRUCache(200)
"""What is stored and what it is parsed to, by the campaign's id."""
_DIGESTS: LRUCache[str, tuple[CampaignSpec, date, str]] = LRUCache(200)
"""What is hashed and its digest, by the campaign's id."""


def parsed_spec(campaign_id: str, spec_json: dict[str, Any]) -> CampaignSpec:
    """A campaign file. It is shared: change no part of it."""
    parsed = _PARSED.get(campaign_id)
    if parsed is None or parsed[0] != spec_json:
        # without the checks of a new campaign: a plug-in that is missing now must not hide the campaign
        spec = CampaignSpec.model_validate(spec_json, context=FROM_COORDINATOR)
        parsed = _PARSED[campaign_id] = spec_json, spec
    return parsed[1]


def parsed_spec_sha256(campaign_id: str, spec: CampaignSpec, created_on: date) -> str:
    """The digest of a campaign file. spec: as ``parsed_spec`` gave it."""
    known = _DIGESTS.get(campaign_id)
    if known is None or known[0] is not spec or known[1] != created_on:
        known = _DIGESTS[campaign_id] = spec, created_on, spec_sha256(spec, created_on)
    return known[2]
