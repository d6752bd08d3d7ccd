"""Locks on digests, for blobs without a row to lock: PostgreSQL's advisory locks, held until the transaction ends."""

from collections.abc import Sequence

from sqlalchemy import BigInteger, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession


async def lock_digests(session: AsyncSession, digests: Sequence[str], *, shared: bool) -> None:
    """Lock digests in the given order. shared: other shared locks of the same digest are possible beside it."""
    if session.get_bind().dialect.name == "sqlite":
        await session.connection()  # begins the transaction; writers exclude each other
        return
    lock = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
    keys = func.unnest(cast([_key(sha256) for sha256 in digests], ARRAY(BigInteger)))
    await session.execute(select(lock(keys.column_valued())))


def _key(sha256: str) -> int:
    """The first 64 bits of a digest. Two digests that share them wait for each other, which does no harm."""
    return int.from_bytes(bytes.fromhex(sha256[:16]), signed=True)
