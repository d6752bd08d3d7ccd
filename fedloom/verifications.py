"""Verifications of a campaign's rounds, which the coordinator does as jobs: start one, read it, wait for its end."""

import time
from collections.abc import Callable

from fedloom.errors import Refused, Unreachable, is_outage
from fedloom.transport import OUTAGE_S, Transport, path_part
from shared.wire.verification import RoundVerification, VerificationDetail, VerificationRequest, VerificationView

FIRST_POLL_S = 0.1
LONGEST_POLL_S = 5.0
_PAGE = 1000

OnProgress = Callable[[VerificationDetail], None]
"""Called with the job whenever it was read; ``outcomes`` has the outcomes since the last call."""


def verifications_path(campaign_path: str) -> str:
    """Where a campaign's jobs are."""
    return f"{campaign_path}/verifications"


def start(transport: Transport, campaign_path: str, rounds: list[int] | None) -> VerificationView:
    """Request a verification. The request may be sent twice: until the job has ended, the reply names the same job."""
    body = VerificationRequest(rounds=rounds).model_dump(mode="json")
    reply = transport.request("POST", verifications_path(campaign_path), body=body, repeatable=True)
    return transport.read(VerificationView, reply)


def cancel(transport: Transport, campaign_path: str, job_id: str) -> VerificationView:
    """End a job early."""
    reply = transport.request("POST", f"{_job_path(campaign_path, job_id)}/cancel")
    return transport.read(VerificationView, reply)


def read(transport: Transport, campaign_path: str, job_id: str, after: int = -1) -> VerificationDetail:
    """A job with all outcomes of rounds above *after*, so far."""
    outcomes: list[RoundVerification] = []
    while True:
        job = transport.fetch(VerificationDetail, _job_path(campaign_path, job_id), after=after, limit=_PAGE)
        outcomes += job.outcomes
        if len(job.outcomes) < _PAGE:
            return job.model_copy(update={"outcomes": outcomes})
        after = job.outcomes[-1].round


def follow(
    transport: Transport, campaign_path: str, job_id: str, on_progress: OnProgress | None = None
) -> VerificationDetail:
    """Wait until a job has ended, and return it with all outcomes.

    Pauses between requests grow to LONGEST_POLL_S. A coordinator that restarts is waited for, up to OUTAGE_S.
    """
    outcomes: list[RoundVerification] = []
    pause_s, seen_at = FIRST_POLL_S, time.monotonic()
    while True:
        try:
            job = read(transport, campaign_path, job_id, outcomes[-1].round if outcomes else -1)
            seen_at = time.monotonic()
        except (Unreachable, Refused) as error:
            if not is_outage(error) or time.monotonic() - seen_at > OUTAGE_S:
                raise
        else:
            outcomes += job.outcomes
            if on_progress is not None:
                on_progress(job)
            if job.state.is_final:
                return job.model_copy(update={"outcomes": outcomes})
        time.sleep(pause_s)
        pause_s = min(LONGEST_POLL_S, pause_s * 1.5)


def _job_path(campaign_path: str, job_id: str) -> str:
    return f"{verifications_path(campaign_path)}/{path_part('verification', job_id)}"
