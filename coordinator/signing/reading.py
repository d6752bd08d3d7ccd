"""The statements of a campaign as its agents read them, signed."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import ParticipantRow, StatementRow
from coordinator.errors import NotFound
from coordinator.signing.key_file import Keys
from shared.wire.statements import MAX_STATEMENTS, REPLY_CHARS, SignedStatement, SignedStatements

_IS_INVITED = Prepared(
    select(ParticipantRow.agent_id).where(
        ParticipantRow.campaign_id == given("campaign"), ParticipantRow.agent_id == given("agent")
    )
)
_TEXTS = Prepared(
    select(StatementRow.text)
    .where(StatementRow.campaign_id == given("campaign"), StatementRow.number >= given("since"))
    .order_by(StatementRow.number)
    .limit(MAX_STATEMENTS + 1)
)


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
    if await _IS_INVITED.first(session, campaign=campaign_id, agent=agent_id) is None:
        raise NotFound("campaign", campaign_id)
    texts = [text for (text,) in await _TEXTS.rows(session, campaign=campaign_id, since=since)]
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
