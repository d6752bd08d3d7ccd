"""Campaigns that start from another's adapter: which one adapter 0 is; what a look at a campaign reads, by indexes.

Revision ID: 0004
Revises: 0003
"""

import copy
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NEW_IN_FILES = (("base", "quantization"), ("dpo", "loss"), ("dpo", "label_smoothing"), ("dpo", "reference"))
"""What earlier versions do not know, refuse in a campaign's file, and cannot train by."""

_KNOWN_OF_PROGRESS = ("phase", "done", "total", "loss", "tokens_per_s")

_INDEXES = (
    ("adapters_evaluating", "adapters", ["campaign_id", "evaluating"]),
    ("tasks_open", "tasks", ["campaign_id", "kind", "state", "counts_in"]),
    ("tasks_leased", "tasks", ["state", "lease_expires_at"]),
    ("blob_uses_stored", "blob_uses", ["campaign_id", "stored", "kind", "round"]),
    ("blob_uses_by_sha256", "blob_uses", ["sha256", "stored", "kind"]),
)

_CAMPAIGNS = sa.table(
    "campaigns",
    sa.column("id", sa.String),
    sa.column("spec_json", sa.JSON),
    sa.column("state", sa.String),
    sa.column("paused_from", sa.String),
)


def upgrade() -> None:
    op.add_column("adapters", sa.Column("origin_campaign_id", sa.String(length=40), nullable=True))
    op.add_column("adapters", sa.Column("origin_number", sa.Integer(), nullable=True))
    op.add_column("adapters", sa.Column("evaluating", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("campaigns", sa.Column("new_agents", sa.Boolean(), server_default=sa.true(), nullable=False))
    adapters = sa.table("adapters", sa.column("evaluating", sa.Boolean), sa.column("held_out_loss", sa.Float))
    op.execute(adapters.update().where(adapters.c.held_out_loss.is_(None)).values(evaluating=True))
    for name in ("ix_blob_uses_campaign_id", "blob_uses_by_sha256"):
        op.drop_index(name, "blob_uses")
    for name, table, columns in _INDEXES:
        op.create_index(name, table, columns)


def downgrade() -> None:
    connection = op.get_bind()
    for row in connection.execute(sa.select(_CAMPAIGNS)).mappings().all():
        said, known = row["spec_json"], _as_before(row["spec_json"])
        if known == said:
            continue
        # a chain that has begun goes on: it has its adapter 0
        waits = (row["paused_from"] or row["state"]) in ("preparing", "initializing")
        is_other = any(field in said.get(section, {}) for section, field in _NEW_IN_FILES)
        if row["state"] not in ("completed", "cancelled") and (is_other or (waits and said.get("start_from"))):
            _cancel(row["id"])
        connection.execute(_CAMPAIGNS.update().where(_CAMPAIGNS.c.id == row["id"]).values(spec_json=known))
    _forget_new_progress()
    for name, table, _ in _INDEXES:
        op.drop_index(name, table)
    op.create_index("blob_uses_by_sha256", "blob_uses", ["sha256"])
    op.create_index("ix_blob_uses_campaign_id", "blob_uses", ["campaign_id"])
    op.drop_column("campaigns", "new_agents")
    op.drop_column("adapters", "evaluating")
    op.drop_column("adapters", "origin_number")
    op.drop_column("adapters", "origin_campaign_id")


def _as_before(spec: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: copy.copy(part) for name, part in spec.items() if name != "start_from"}
    for section, field in _NEW_IN_FILES:
        known.get(section, {}).pop(field, None)
    return known


def _cancel(campaign_id: str) -> None:
    """End a campaign that would not be the same one in an earlier version; its adapters stay."""
    for statement in (
        "UPDATE campaigns SET state = 'cancelled', paused_from = NULL, ended_at = CURRENT_TIMESTAMP, "
        "reason = 'the earlier version that was gone back to cannot run it', "
        "final_adapter = CASE WHEN contract IS NOT NULL THEN rounds_closed END WHERE id = :id",
        "UPDATE rounds SET state = 'cancelled', closed_at = CURRENT_TIMESTAMP "
        "WHERE campaign_id = :id AND state IN ('open', 'aggregating')",
        "UPDATE tasks SET state = 'cancelled', ended_at = CURRENT_TIMESTAMP "
        "WHERE campaign_id = :id AND state IN ('pending', 'leased')",
    ):
        op.execute(sa.text(statement).bindparams(id=campaign_id))


def _forget_new_progress() -> None:
    """Earlier versions refuse a task's progress in words that they do not know."""
    connection = op.get_bind()
    tasks = sa.table("tasks", sa.column("id", sa.String), sa.column("progress", sa.JSON))
    query = sa.select(tasks).where(tasks.c.progress.is_not(None))
    for task_id, said in connection.execute(query).all():
        if said is not None and (said.keys() - _KNOWN_OF_PROGRESS or said["phase"] == "scoring the reference"):
            connection.execute(tasks.update().where(tasks.c.id == task_id).values(progress=sa.null()))
