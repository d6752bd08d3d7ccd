"""Which blobs the rows need. A store keeps equal bytes once, so its kinds are asked for together."""

from collections.abc import Sequence
from functools import cache

from sqlalchemy import ColumnElement, CompoundSelect, Exists, Select, exists, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import BlobUseRow, RoundRow, UploadRow
from shared.states import BlobKind, RoundState


def is_needed(sha256: InstrumentedAttribute[str], kinds: Sequence[BlobKind]) -> ColumnElement[bool]:
    """Whether a campaign uses a blob, or an upload of equal bytes awaits it.

    Both in one statement: a transaction that ends an upload and references its bytes is seen whole or not.
    """
    used = exists().where(BlobUseRow.sha256 == sha256, BlobUseRow.stored, BlobUseRow.kind.in_(kinds))
    return used | exists().where(UploadRow.sha256 == sha256, UploadRow.purpose.in_(kinds))


def needed(kinds: Sequence[BlobKind]) -> CompoundSelect[str]:
    """The digests of the blobs for which ``is_needed`` holds, in one statement too."""
    return union_all(*_needing(kinds))


async def needed_among(session: AsyncSession, kinds: Sequence[BlobKind], digests: Sequence[str]) -> set[str]:
    """The digests of those among some blobs, at least one, for which ``is_needed`` holds."""
    n_digests = 1 << (len(digests) - 1).bit_length()  # few statements, each for up to twice as many
    last = len(digests) - 1
    asked = {f"sha256_{number}": digests[min(number, last)] for number in range(n_digests)}
    return {sha256 for (sha256,) in await _needed_among(tuple(kinds), n_digests).rows(session, **asked)}


@cache
def _needed_among(kinds: tuple[BlobKind, ...], n_digests: int) -> Prepared:
    among = [given(f"sha256_{number}") for number in range(n_digests)]
    used, awaited = _needing(kinds)
    return Prepared(union_all(used.where(BlobUseRow.sha256.in_(among)), awaited.where(UploadRow.sha256.in_(among))))


def _needing(kinds: Sequence[BlobKind]) -> tuple[Select[str], Select[str]]:
    used = select(BlobUseRow.sha256).where(BlobUseRow.stored, BlobUseRow.kind.in_(kinds))
    return used, select(UploadRow.sha256).where(UploadRow.purpose.in_(kinds))


def is_aggregating() -> Exists:
    """Whether a round is being aggregated, which announces whatever blobs of it are in the database."""
    return exists().where(RoundRow.state == RoundState.AGGREGATING)
