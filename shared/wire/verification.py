"""Verifications: jobs that recompute closed rounds, and the outcome of each round."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from shared.bounds import Count
from shared.states import VerificationState
from shared.wire.base import Reply, Request, Sha256

MAX_ROUNDS = 1000
"""Round numbers that one request may name, at most; without numbers it means all closed rounds."""


class Outcome(StrEnum):
    """Whether a round's adapter is what its record says."""

    VERIFIED = "verified"
    """Recomputed from the stored updates, adapter, state and broadcast have the recorded digests."""
    DIFFERS = "differs"
    """Recomputed, at least one of them has another digest than the recorded one; or its lineage is broken."""
    CORRUPT = "corrupt"
    """Stored bytes do not have their digest."""
    NOT_KEPT = "not-kept"
    """It cannot be recomputed: one of its inputs is no longer stored. What is stored has its digest."""
    ROLLED_BACK = "rolled-back"
    """The round was rolled back after the verification was requested."""
    FAILED = "failed"
    """The engine failed repeatedly on this round; the reason says how."""


class VerificationRequest(Request):
    """Asks for a verification. rounds: which rounds, 0 for adapter 0; null means all that are closed now."""

    rounds: Annotated[list[Count], Field(min_length=1, max_length=MAX_ROUNDS)] | None = None


class RoundVerification(Reply):
    """One round. adapter_sha256: the recorded digest; computed_sha256: the digest of the recomputed adapter. reason:
    what differs, is corrupt, or is not stored."""

    round: int
    outcome: Outcome
    adapter_sha256: Sha256
    computed_sha256: Sha256 | None = None
    reason: str | None = None


class VerificationView(Reply):
    """A verification and its progress. reason: why the engine could not continue; it tries again by itself."""

    id: str
    campaign_id: str
    state: VerificationState
    reason: str | None = None
    n_rounds: int
    n_done: int
    created_at: datetime
    ended_at: datetime | None = None


class VerificationDetail(VerificationView):
    """A verification with outcomes in the order of rounds. A reply holds up to 1,000; ``after=ROUND`` asks for those
    after a round."""

    outcomes: list[RoundVerification]
