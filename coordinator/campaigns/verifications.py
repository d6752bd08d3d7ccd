"""Verifications as operators see them: request one, read it, cancel it. The engine does the work."""

from collections.abc import Sequence

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.ids import new_id
from coordinator.database.sessions import after_commit
from coordinator.database.tables import AdapterRow, VerificationRow, VerifiedRoundRow
from coordinator.errors import IllegalMove, NotFound
from coordinator.lifecycle import lock_campaign
from coordinator.services import Services
from shared.states import VerificationState
from shared.wire.verification import RoundVerification, VerificationDetail, VerificationView

_NONE = (0, 0)
_FIRST = 0
"""The number of the initial adapter, which a campaign without closed rounds has too."""


async def start(
    session: AsyncSession, services: Services, campaign_id: str, rounds: Sequence[int] | None
) -> VerificationView:
    """Make a job that verifies rounds, by default all that are closed. If a job for the same rounds has not ended,
    returns that one. Raises NotFound for the campaign and for a round that is not closed."""
    await lock_campaign(session, campaign_id)
    requested = sorted(set(rounds)) if rounds is not None else None
    query = select(AdapterRow.number, AdapterRow.sha256).where(AdapterRow.campaign_id == campaign_id)
    if requested is not None:
        query = query.where(AdapterRow.number.in_(requested))
    adapters = dict((await session.execute(query)).all())
    missing = [number for number in requested or [_FIRST] if number not in adapters]
    if missing:
        raise NotFound("round", missing[0])
    unended = select(VerificationRow).where(
        VerificationRow.campaign_id == campaign_id,
        VerificationRow.state.in_((VerificationState.PENDING, VerificationState.RUNNING)),
    )
    for job in (await session.scalars(unended.order_by(VerificationRow.id))).all():
        if job.requested == requested and await _rounds_of(session, job) == adapters:
            return (await views(session, [job]))[0]
    now = services.clock.now()
    job = VerificationRow(
        id=new_id(now),
        campaign_id=campaign_id,
        state=VerificationState.PENDING,
        requested=requested,
        created_at=now,
        due_at=now,
    )
    session.add(job)
    await session.flush()
    await session.execute(
        insert(VerifiedRoundRow),
        [{"verification_id": job.id, "round": number, "adapter_sha256": sha256} for number, sha256 in adapters.items()],
    )
    after_commit(session, services.notifiers.wake_verifier)
    return (await views(session, [job]))[0]


async def _rounds_of(session: AsyncSession, job: VerificationRow) -> dict[int, str]:
    """The rounds of a job, with the digests of their adapters when it was made."""
    query = select(VerifiedRoundRow.round, VerifiedRoundRow.adapter_sha256)
    return dict((await session.execute(query.where(VerifiedRoundRow.verification_id == job.id))).all())


async def cancel(session: AsyncSession, services: Services, campaign_id: str, job_id: str) -> VerificationView:
    """End a job early; its outcomes stay. The engine drops the round that it is verifying. Raises NotFound and
    IllegalMove."""
    job = await session.scalar(select(VerificationRow).where(VerificationRow.id == job_id).with_for_update())
    if job is None or job.campaign_id != campaign_id:
        raise NotFound("verification", job_id)
    if job.state.is_final:
        raise IllegalMove("verification", job.state, VerificationState.CANCELLED)
    job.state, job.ended_at = VerificationState.CANCELLED, services.clock.now()
    job.due_at = job.claim_token = job.claim_expires_at = None
    return (await views(session, [job]))[0]


async def detail(session: AsyncSession, campaign_id: str, job_id: str, after: int, limit: int) -> VerificationDetail:
    """A job with up to *limit* outcomes of rounds after a number. Raises NotFound."""
    job = await session.get(VerificationRow, job_id)
    if job is None or job.campaign_id != campaign_id:
        raise NotFound("verification", job_id)
    [view] = await views(session, [job])
    query = select(VerifiedRoundRow).where(
        VerifiedRoundRow.verification_id == job_id,
        VerifiedRoundRow.outcome.is_not(None),
        VerifiedRoundRow.round > after,
    )
    rows = await session.scalars(query.order_by(VerifiedRoundRow.round).limit(limit))
    outcomes = [RoundVerification.model_validate(row, from_attributes=True) for row in rows.all()]
    return VerificationDetail(**view.model_dump(), outcomes=outcomes)


async def views(session: AsyncSession, jobs: Sequence[VerificationRow]) -> list[VerificationView]:
    """The jobs with their progress."""
    n_rounds = (
        select(VerifiedRoundRow.verification_id, func.count(), func.count(VerifiedRoundRow.outcome))
        .where(VerifiedRoundRow.verification_id.in_([job.id for job in jobs]))
        .group_by(VerifiedRoundRow.verification_id)
    )
    progress = {job_id: (total, done) for job_id, total, done in (await session.execute(n_rounds)).all()}
    return [
        VerificationView(
            id=job.id,
            campaign_id=job.campaign_id,
            state=job.state,
            reason=job.reason,
            n_rounds=progress.get(job.id, _NONE)[0],  # the sweeper may have deleted the job meanwhile
            n_done=progress.get(job.id, _NONE)[1],
            created_at=job.created_at,
            ended_at=job.ended_at,
        )
        for job in jobs
    ]
