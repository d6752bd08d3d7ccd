"""Which blobs the rows need. A store keeps equal bytes once, so its kinds are asked for together."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, CompoundSelect, Exists, exists, select, union_all
from sqlalchemy.orm import InstrumentedAttribute

from coordinator.database.tables import BlobUseRow, RoundRow, UploadRow
from shared.states import BlobKind, RoundState


def is_needed(sha256: InstrumentedAttribute[str], kinds: Sequence[BlobKind]) -> ColumnElement[bool]:
    """Whether a campaign uses a blob, or an upload of equal bytes awaits it.

    Both in one statement: a transaction that ends an upload and references its bytes is seen whole or not.
    """
    used = exists().where(BlobUseRow.sha256 == sha256, BlobUseRow.stored, BlobUseRow.kind.in_(kinds))
    return used | exists().where(UploadRow.sha256 == sha256, UploadRow.purpose.in_(kinds))


def needed(kinds: Sequence[BlobKind], among: Sequence[str] | None = None) -> CompoundSelect[str]:
    """The digests of the blobs for which ``is_needed`` holds, in one statement too. among: asked for these alone."""
    used = select(BlobUseRow.sha256).where(BlobUseRow.stored, BlobUseRow.kind.in_(kinds))
    awaited = select(UploadRow.sha256).where(UploadRow.purpose.in_(kinds))
    if among is not None:
        used, awaited = used.where(BlobUseRow.sha256.in_(among)), awaited.where(UploadRow.sha256.in_(among))
    return union_all(used, awaited)


def is_aggregating() -> Exists:
    """Whether a round is being aggregated, which announces whatever blobs of it are in the database."""
    return exists().where(RoundRow.state == RoundState.AGGREGATING)
