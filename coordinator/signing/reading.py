"""The statements of a campaign as its agents read them, signed."""

from collections.abc import Iterable
from functools import lru_cache

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.database.prepared import Prepared, Transaction, given
from coordinator.database.tables import ParticipantRow, StatementRow
from coordinator.errors import NotFound
from coordinator.signing.key_file import Keys
from coordinator.signing.signer import Signer
from shared.signing.keys import Signature
from shared.wire.statements import MAX_STATEMENTS, REPLY_CHARS, SignedStatement, SignedStatements

_LEASE_CHARS = 60_000
"""Most characters of the texts that a lease brings."""

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
    return SignedStatements(statements=_signed(keys, texts[:taken]), has_more=taken < len(texts))


async def statements_with_lease(
    transaction: Transaction, signer: Signer, campaign_id: str, newest: int | None
) -> SignedStatements | None:
    """The statements that a lease brings: from the newest that its agent has, word for word.

    None if the agent has none, or if they are too long for the reply: then it asks for them.

    Args:
        transaction: the lease's.
        signer: has the key.
        campaign_id: the campaign.
        newest: number of the newest one that the agent has.
    """
    if newest is None:
        return None
    texts = [text for (text,) in await _TEXTS.rows(transaction, campaign=campaign_id, since=newest)]
    if len(texts) > MAX_STATEMENTS or sum(map(len, texts)) > _LEASE_CHARS:
        return None
    return SignedStatements(statements=_signed(await signer.keys(transaction), texts), has_more=False)


def _signed(keys: Keys, texts: Iterable[str]) -> list[SignedStatement]:
    return [SignedStatement(text=text, key=keys.public, signature=_signature(keys, text)) for text in texts]


def _signature(keys: Keys, text: str) -> Signature:
    """The signature of a text. All clients of a round read the same ones; by one key a text has one signature."""
    return _sign(keys, text) if len(text) <= _LEASE_CHARS else keys.signing.sign(text)


@lru_cache(maxsize=256)
def _sign(keys: Keys, text: str) -> Signature:
    return keys.signing.sign(text)
