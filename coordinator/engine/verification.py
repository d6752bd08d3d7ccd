"""Verifies rounds: the engine's jobs beside campaigns, one job after the other and one round after the other.

An engine claims a job as it claims a campaign: by a lease that it renews while it works. Each round's outcome is one
transaction, which checks the claim's token under the lock of the job's row. So an engine that dies is followed by one
that continues with the next round, and an engine that lost its claim writes nothing.

It uses one aggregation thread, which rounds never need, so a verification delays no round.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.clock import later
from coordinator.database.availability import errors_logged
from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import AdapterRow, VerificationRow, VerifiedRoundRow
from coordinator.engine.aggregation.verify import verify_round
from coordinator.errors import CoordinatorError, DatabaseAway, NotFound
from coordinator.services import Services
from shared.states import VerificationState
from shared.wire.verification import Outcome, RoundVerification

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""Seconds until the next attempt after an unexpected error. They double with each further attempt at a round."""
ATTEMPTS = 4
"""Attempts at a round that fail before its outcome is FAILED, and the job continues with the next round."""

_DOUBLINGS = 8
_ROLLED_BACK = "the round was rolled back after this verification was requested"
_OPEN = (VerificationState.PENDING, VerificationState.RUNNING)


@dataclass(frozen=True)
class _Claim:
    """The right of this engine to work on a job."""

    job_id: str
    campaign_id: str
    token: str


class Verifier:
    """Runs until it is cancelled. name: the engine's, which begins the tokens of its claims."""

    def __init__(self, services: Services, name: str) -> None:
        self._services = services
        self._name = name
        self._failures: tuple[str, int, int] = ("", 0, 0)
        """The job and the round that failed last, and how often in a row."""

    async def run(self) -> None:
        """Work on jobs that are due, for ever; errors are logged, and followed by another attempt."""
        with self._services.notifiers.subscribe_verifier() as notifications:
            while True:
                with errors_logged(log, "could not work on verifications, trying again"):
                    while (claim := await self._claim()) is not None:
                        await self._work(claim)
                await notifications.wait(self._services.settings.engine.poll_s)

    async def _claim(self) -> _Claim | None:
        """Claim the job that is due for longest; None if none is due, or another engine was faster."""
        now = self._services.clock.now()
        found = await self._services.database.ask(_NEXT, now=now)
        if not found:
            return None
        [(job_id, campaign_id)] = found
        token = self._name + secrets.token_hex(12)
        async with self._services.database.write("claim verification") as session:
            claimed = await session.scalar(
                update(VerificationRow)
                .where(VerificationRow.id == job_id, _is_free(now))
                .values(state=VerificationState.RUNNING, claim_token=token, claim_expires_at=self._claim_end())
                .returning(VerificationRow.id)
                .execution_options(synchronize_session=False)
            )
        return _Claim(job_id, campaign_id, token) if claimed is not None else None

    async def _work(self, claim: _Claim) -> None:
        """Verify the job's rounds that have no outcome yet; after an error the job is due again later."""
        number = -1
        try:
            async with self._renewed(claim):
                while (planned := await self._next_round(claim)) is not None:
                    number, adapter_sha256 = planned
                    outcome = await self._verify(claim, number, adapter_sha256)
                    if not await self._record(claim, number, adapter_sha256, outcome):
                        return
        except asyncio.CancelledError:
            await self._release_logged(claim, 0)
            raise
        except DatabaseAway:  # the claim expires
            raise
        except Exception as error:
            log.exception("verification %s could not continue", claim.job_id)
            n_failures = self._count_failure(claim, number)
            reason = f"the engine failed at round {number} and tries again: {_reason(error)}"
            await self._release_logged(claim, RETRY_S * 2.0 ** min(n_failures - 1, _DOUBLINGS), reason)

    def _count_failure(self, claim: _Claim, number: int) -> int:
        """Count an attempt at a round that failed. Returns how many have failed in a row."""
        job_id, failed, n_failures = self._failures
        n_failures = n_failures + 1 if (job_id, failed) == (claim.job_id, number) else 1
        self._failures = (claim.job_id, number, n_failures)
        return n_failures

    async def _verify(self, claim: _Claim, number: int, adapter_sha256: str) -> RoundVerification | None:
        """Verify one round. Returns None if it no longer exists, and FAILED after the last attempt."""
        try:
            return await verify_round(self._services, claim.campaign_id, number)
        except NotFound:
            return None
        except DatabaseAway:  # no fault of the round
            raise
        except Exception as error:
            if self._failures != (claim.job_id, number, ATTEMPTS - 1):
                raise
            log.exception("round %d of verification %s failed %d times", number, claim.job_id, ATTEMPTS)
            return RoundVerification(
                round=number, outcome=Outcome.FAILED, adapter_sha256=adapter_sha256, reason=_reason(error)
            )

    async def _next_round(self, claim: _Claim) -> tuple[int, str] | None:
        """The first round without an outcome, with the digest of its adapter when the job was made."""
        query = select(VerifiedRoundRow.round, VerifiedRoundRow.adapter_sha256).where(_is_left(claim.job_id))
        found = await self._services.database.fetch(query.order_by(VerifiedRoundRow.round).limit(1))
        return (found[0][0], found[0][1]) if found else None

    async def _record(self, claim: _Claim, number: int, adapter_sha256: str, found: RoundVerification | None) -> bool:
        """Write the outcome of a round, and end the job with its last one. Returns whether rounds are left; False also
        if the claim was lost or the job cancelled."""
        async with self._claimed("record verification", claim) as (session, job):
            if job is None:
                return False
            recorded = await session.scalar(
                select(AdapterRow.sha256).where(
                    AdapterRow.campaign_id == claim.campaign_id, AdapterRow.number == number
                )
            )
            row = await session.get_one(VerifiedRoundRow, (claim.job_id, number))
            if found is None or recorded != adapter_sha256 or found.adapter_sha256 != adapter_sha256:
                row.outcome, row.reason = Outcome.ROLLED_BACK, _ROLLED_BACK
            else:
                row.outcome, row.reason, row.computed_sha256 = found.outcome, found.reason, found.computed_sha256
            await session.flush()
            is_left = await session.scalar(select(exists().where(_is_left(claim.job_id))))
            job.reason = None
            if not is_left:
                job.state, job.ended_at = VerificationState.DONE, self._services.clock.now()
                job.due_at = job.claim_token = job.claim_expires_at = None
            return bool(is_left)

    async def _release_logged(self, claim: _Claim, pause_s: float, reason: str | None = None) -> None:
        """Release a job that was interrupted; it is due again after a pause."""
        with errors_logged(log, "could not release verification %s; its claim expires", claim.job_id):
            async with self._claimed("release verification", claim) as (_, job):
                if job is not None:
                    job.claim_token = job.claim_expires_at = None
                    job.due_at = later(self._services.clock.now(), pause_s)
                    job.reason = reason or job.reason

    @asynccontextmanager
    async def _claimed(self, name: str, claim: _Claim) -> AsyncIterator[tuple[AsyncSession, VerificationRow | None]]:
        """One transaction on the locked job; None if the claim was lost."""
        async with self._services.database.write(name) as session:
            query = select(VerificationRow).where(
                VerificationRow.id == claim.job_id, VerificationRow.claim_token == claim.token
            )
            yield session, await session.scalar(query.with_for_update())

    @asynccontextmanager
    async def _renewed(self, claim: _Claim) -> AsyncIterator[None]:
        """Renew a claim for the length of the block."""
        renewing = asyncio.create_task(self._renew(claim))
        try:
            yield
        finally:
            await self._services.database.cancel(renewing)

    async def _renew(self, claim: _Claim) -> None:
        while True:
            await asyncio.sleep(self._services.settings.engine.claim_ttl_s / 3)
            with errors_logged(log, "could not renew the claim on verification %s, trying again", claim.job_id):
                async with self._claimed("renew verification", claim) as (_, job):
                    if job is None:  # the claim was lost
                        return
                    job.claim_expires_at = self._claim_end()

    def _claim_end(self) -> datetime:
        return later(self._services.clock.now(), self._services.settings.engine.claim_ttl_s)


async def free_claims(session: AsyncSession, name: str) -> None:
    """Release the claims on verifications of an earlier engine of this name, which is dead."""
    await session.execute(
        update(VerificationRow)
        .where(VerificationRow.claim_token.startswith(name))
        .values(claim_token=None, claim_expires_at=None)
        .execution_options(synchronize_session=False)
    )


async def delete_old(services: Services) -> None:
    """Delete verifications that ended longer ago than the settings keep them."""
    before = services.clock.now() - timedelta(seconds=services.settings.storage.keep_verifications_s)
    found = await services.database.fetch(select(VerificationRow.id).where(VerificationRow.ended_at < before))
    ids: Sequence[str] = [job_id for (job_id,) in found]
    for job_id in ids:
        async with services.database.write("delete verification") as session:
            await session.execute(delete(VerifiedRoundRow).where(VerifiedRoundRow.verification_id == job_id))
            await session.execute(delete(VerificationRow).where(VerificationRow.id == job_id))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, CoordinatorError) else type(error).__name__


def _is_left(job_id: str) -> ColumnElement[bool]:
    """SQL: a round of the job without an outcome."""
    return and_(VerifiedRoundRow.verification_id == job_id, VerifiedRoundRow.outcome.is_(None))


def _is_free(now: Any) -> ColumnElement[bool]:
    """SQL: the job is due, and no engine holds a claim on it. now: a time, or one that is given."""
    is_unclaimed = VerificationRow.claim_token.is_(None) | (VerificationRow.claim_expires_at < now)
    return and_(VerificationRow.due_at <= now, VerificationRow.state.in_(_OPEN), is_unclaimed)


_NEXT = Prepared(
    select(VerificationRow.id, VerificationRow.campaign_id)
    .where(_is_free(given("now")))
    .order_by(VerificationRow.due_at, VerificationRow.id)
    .limit(1)
)
