"""What computing a closed round anew gives."""

from enum import StrEnum

from shared.wire.base import Reply, Sha256


class Outcome(StrEnum):
    """How a round's adapter stands."""

    VERIFIED = "verified"
    """Computed anew from the kept updates, adapter, state and broadcast have the recorded digests."""
    DIFFERS = "differs"
    """Computed anew, something has another digest than the one recorded; or its lineage is broken."""
    CORRUPT = "corrupt"
    """Stored bytes do not have their digest."""
    NOT_KEPT = "not-kept"
    """It cannot be computed anew: something that it was made from is not stored. What is stored has its digest."""


class RoundVerification(Reply):
    """One round. adapter_sha256: the recorded digest; computed_sha256: that of the adapter as computed now. reason:
    what differs, is corrupt, or is not kept."""

    round: int
    outcome: Outcome
    adapter_sha256: Sha256
    computed_sha256: Sha256 | None = None
    reason: str | None = None
