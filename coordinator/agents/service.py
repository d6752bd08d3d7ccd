"""Rules of enrolment: tokens work once, only hashes of secrets are stored, revoking an agent affects no other."""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import task_moves
from coordinator.client_count import recount_clients
from coordinator.clock import later
from coordinator.database.ids import new_id
from coordinator.database.tables import AgentRow, CampaignRow, EnrollmentTokenRow, OperatorKeyRow
from coordinator.engine import participants
from coordinator.errors import AgentRevoked, NameTaken, NotFound, SecretRefused, TokenRefused
from coordinator.events.log import record
from coordinator.lifecycle import lock_campaign
from shared.credentials import ENROLLMENT_PREFIX, OPERATOR_PREFIX, hash_secret, new_secret
from shared.events import EventType
from shared.signing.keys import PublicKey
from shared.states import AgentState, CampaignState, TokenState
from shared.wire.enrollments import (
    EnrollmentReply,
    EnrollmentRequest,
    SecretReply,
    SecretRequest,
    TokenCreate,
    TokenCreated,
)

_ENDED = (CampaignState.COMPLETED, CampaignState.CANCELLED)


async def new_operator_key(session: AsyncSession, now: datetime) -> str:
    """Make and return an operator key; only its hash is stored."""
    key = new_secret(OPERATOR_PREFIX)
    session.add(OperatorKeyRow(id=new_id(now), key_hash=hash_secret(key), created_at=now))
    return key


async def create_token(session: AsyncSession, now: datetime, request: TokenCreate) -> TokenCreated:
    """Make a one-time enrolment token; only its hash is stored."""
    token = new_secret(ENROLLMENT_PREFIX)
    row = EnrollmentTokenRow(
        id=new_id(now),
        token_hash=hash_secret(token),
        labels=request.labels,
        note=request.note,
        created_at=now,
        expires_at=later(now, request.expires_in_s),
    )
    session.add(row)
    await session.flush()
    return TokenCreated(
        id=row.id,
        labels=row.labels,
        note=row.note,
        created_at=row.created_at,
        expires_at=row.expires_at,
        token=token,
    )


def token_is(state: TokenState, now: datetime) -> ColumnElement[bool]:
    """The condition for tokens in a state."""
    row = EnrollmentTokenRow
    match state:
        case TokenState.USED:
            return row.used_at.is_not(None)
        case TokenState.EXPIRED:
            return and_(row.used_at.is_(None), row.expires_at <= now)
        case TokenState.OPEN:
            return and_(row.used_at.is_(None), row.expires_at > now)


async def enroll(
    session: AsyncSession, now: datetime, signing_key: PublicKey, request: EnrollmentRequest
) -> EnrollmentReply:
    """Enrol an agent with a one-time token.

    Raises TokenRefused, NameTaken and SecretRefused; a refused name or secret leaves the token unused.

    A repeated request with the same name and secret comes from the same agent, whose reply was lost: it gets the same
    reply again.
    """
    token = await session.scalar(
        select(EnrollmentTokenRow).where(EnrollmentTokenRow.token_hash == hash_secret(request.token)).with_for_update()
    )
    if token is None:
        raise TokenRefused("this token is unknown")
    if token.used_at is not None:
        if (enrolled := await _enrolled_with(session, request)) is not None:
            return _identity(enrolled, signing_key)
        raise TokenRefused(f"this token was used by {token.used_by} on {token.used_at:%Y-%m-%d %H:%M} UTC")
    if token.expires_at <= now:
        raise TokenRefused(f"this token expired on {token.expires_at:%Y-%m-%d %H:%M} UTC")
    if await _is_active_name(session, request.name):
        raise NameTaken(request.name)
    await _refuse_known_secret(session, request.secret_hash)
    claimed = await session.execute(
        update(EnrollmentTokenRow)
        .where(EnrollmentTokenRow.id == token.id, EnrollmentTokenRow.used_at.is_(None))
        .values(used_at=now, used_by=request.name)
        .returning(EnrollmentTokenRow.id)
    )
    if claimed.first() is None:
        raise TokenRefused("this token was used just now")
    agent = AgentRow(
        id=new_id(now),
        name=request.name,
        labels=token.labels,
        state=AgentState.ACTIVE,
        secret_hash=request.secret_hash,
        version=request.version,
        created_at=now,
        last_seen_at=now,
    )
    try:
        async with session.begin_nested():
            session.add(agent)
    except IntegrityError as error:  # a concurrent request took the name or the secret
        if await _is_active_name(session, request.name):
            raise NameTaken(request.name) from error
        raise SecretRefused from error
    # campaigns that have not ended may want this agent; locked by id, as everywhere
    unfinished = select(CampaignRow).where(CampaignRow.state.not_in(_ENDED)).order_by(CampaignRow.id)
    for campaign in (await session.scalars(unfinished.with_for_update())).all():
        if campaign.spec.selection.labels.items() <= agent.labels.items():
            campaign.new_agents = True
            if campaign.state is not CampaignState.PAUSED:
                campaign.due_at = now
    return _identity(agent, signing_key)


def _identity(agent: AgentRow, signing_key: PublicKey) -> EnrollmentReply:
    return EnrollmentReply(agent_id=agent.id, name=agent.name, labels=agent.labels, signing_key=signing_key)


async def _enrolled_with(session: AsyncSession, request: EnrollmentRequest) -> AgentRow | None:
    query = select(AgentRow).where(
        AgentRow.name == request.name,
        AgentRow.state == AgentState.ACTIVE,
        AgentRow.secret_hash == request.secret_hash,
    )
    agent: AgentRow | None = await session.scalar(query)
    return agent


async def _is_active_name(session: AsyncSession, name: str) -> bool:
    query = select(AgentRow.id).where(AgentRow.name == name, AgentRow.state == AgentState.ACTIVE)
    return await session.scalar(query) is not None


async def _refuse_known_secret(session: AsyncSession, secret_hash: str, of: str | None = None) -> None:
    """Raise SecretRefused if an agent has or had the secret. of: the agent that may have it."""
    owner = await session.scalar(select(AgentRow.id).where(AgentRow.secret_hash == secret_hash))
    if owner is not None and owner != of:
        raise SecretRefused


async def find_agent(session: AsyncSession, id_or_name: str) -> AgentRow:
    """Find an agent by its id, or the newest one with a name. Raises NotFound."""
    agent = await session.get(AgentRow, id_or_name)
    if agent is None:
        by_name = select(AgentRow).where(AgentRow.name == id_or_name).order_by(AgentRow.id.desc()).limit(1)
        agent = await session.scalar(by_name)
    if agent is None:
        raise NotFound("agent", id_or_name)
    return agent


async def rotate_secret(session: AsyncSession, agent_id: str, request: SecretRequest) -> SecretReply:
    """Replace an agent's secret; the old one is void at once. Raises AgentRevoked and SecretRefused."""
    await _refuse_known_secret(session, request.secret_hash, of=agent_id)
    try:
        rotated = await session.execute(
            update(AgentRow)
            .where(AgentRow.id == agent_id, AgentRow.state == AgentState.ACTIVE)
            .values(secret_hash=request.secret_hash)
            .returning(AgentRow.id)
        )
    except IntegrityError as error:  # a concurrent request took it
        raise SecretRefused from error
    if rotated.first() is None:
        raise AgentRevoked(agent_id)
    return SecretReply(agent_id=agent_id)


async def revoke(session: AsyncSession, now: datetime, id_or_name: str) -> AgentRow:
    """Revoke an agent, and cancel its tasks so that others can do them. Raises NotFound."""
    agent = await find_agent(session, id_or_name)
    revoked = await session.execute(
        update(AgentRow)
        .where(AgentRow.id == agent.id, AgentRow.state == AgentState.ACTIVE)
        .values(state=AgentState.REVOKED)
        .returning(AgentRow.id)
    )
    if revoked.first() is None:
        return agent
    for campaign_id in await participants.campaigns_of(session, agent.id):
        campaign = await lock_campaign(session, campaign_id)
        await task_moves.cancel_of_agent(session, now, campaign_id, agent.id)
        await recount_clients(session, campaign)
        if not campaign.state.is_final:
            record(session, campaign, now, EventType.AGENT_REVOKED, agent=agent.name)
            campaign.due_at = now
    await session.refresh(agent)
    return agent
