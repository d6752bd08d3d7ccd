"""The statements of a campaign as its agents read them, signed."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.tables import ParticipantRow, StatementRow
from coordinator.errors import NotFound
from coordinator.signing.key_file import Keys
from shared.wire.statements import MAX_STATEMENTS, REPLY_CHARS, SignedStatement, SignedStatements


async def statements_of(
    session: AsyncSession, keys: Keys, agent_id: str, campaign_id: str, since: int
) -> SignedStatements:
    """The statements of a campaign from a number on, as many as a reply takes.

    Raises NotFound unless the agent was invited to the campaign.

    Args:
        session: the transaction.
        keys: what they are signed by.
        agent_id: who asks.
        campaign_id: the campaign.
        since: number of the first one.
    """
    if await session.get(ParticipantRow, (campaign_id, agent_id)) is None:
        raise NotFound("campaign", campaign_id)
    query = select(StatementRow.text).where(StatementRow.campaign_id == campaign_id, StatementRow.number >= since)
    texts = list(await session.scalars(query.order_by(StatementRow.number).limit(MAX_STATEMENTS + 1)))
    taken, n_chars = 0, 0
    for text in texts[:MAX_STATEMENTS]:
        n_chars += len(text)
        if taken and n_chars > REPLY_CHARS:
            break
        taken += 1
    return SignedStatements(
        statements=[
            SignedStatement(text=text, key=keys.public, signature=keys.signing.sign(text)) for text in texts[:taken]
        ],
        has_more=taken < len(texts),
    )
