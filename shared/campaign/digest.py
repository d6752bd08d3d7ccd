"""The digest of a whole campaign specification: what an owner accepts, and what every task of the campaign names."""

import json
from datetime import date
from typing import Any

from shared.campaign.spec import CampaignSpec
from shared.digest import sha256_hex


def covered_by_digest(spec: CampaignSpec, created_on: date) -> dict[str, Any]:
    """All that the digest covers: every field of the specification, defaults too, and the campaign's day."""
    return spec.model_dump(mode="json") | {"created_on": created_on.isoformat()}


def spec_sha256(spec: CampaignSpec, created_on: date) -> str:
    """SHA-256 of the specification as canonical JSON: every field, defaults too, with sorted names and no spaces.

    created_on: the campaign's day, which templates see; it is a field of the JSON, so that all owners see one.
    """
    fields = covered_by_digest(spec, created_on)
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return sha256_hex(text.encode())
