"""Queries for the global adapters of a campaign."""

from sqlalchemy import ColumnElement, Select, exists, select

from coordinator.database.tables import AdapterRow, BlobUseRow
from shared.states import BlobKind


def adapters_of(campaign_id: str) -> Select[AdapterRow]:
    """A query for all adapters of a campaign."""
    return select(AdapterRow).where(AdapterRow.campaign_id == campaign_id)


def is_stored() -> ColumnElement[bool]:
    """The condition that an adapter's bytes are stored."""
    return exists().where(
        BlobUseRow.campaign_id == AdapterRow.campaign_id,
        BlobUseRow.sha256 == AdapterRow.sha256,
        BlobUseRow.kind == BlobKind.ADAPTER,
        BlobUseRow.stored,
    )
