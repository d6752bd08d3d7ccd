"""Slow, failing and late agents: in which round an update counts, since when a client takes part, and how it does.

Revision ID: 0003
Revises: 0002
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("counts_in", sa.Integer(), nullable=True))
    op.add_column("participants", sa.Column("joined_round", sa.Integer(), nullable=True))
    op.add_column("participants", sa.Column("failures_in_a_row", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("participants", sa.Column("set_aside_until", sa.Integer(), nullable=True))
    # so far an update counted in its own round, once that took no more of them, and clients were there from the start
    op.execute(
        "UPDATE tasks SET counts_in = round WHERE kind = 'train' AND state = 'done' AND EXISTS ("
        "SELECT 1 FROM rounds WHERE rounds.campaign_id = tasks.campaign_id AND rounds.number = tasks.round "
        "AND rounds.state IN ('aggregating', 'closed'))"
    )
    op.execute("UPDATE participants SET joined_round = 1 WHERE client_number IS NOT NULL")


def downgrade() -> None:
    _say_as_before("campaigns", "spec_json", _without_stragglers)
    _say_as_before("tasks", "failure", _of_a_known_kind)
    # earlier versions number nobody later and count nothing late: who is not a client yet could not become one
    op.execute(
        "UPDATE participants SET state = 'failed', reason = 'the campaign started without it' "
        "WHERE client_number IS NULL AND state IN ('preparing', 'prepared') AND campaign_id IN ("
        "SELECT id FROM campaigns WHERE state NOT IN ('preparing', 'completed', 'cancelled') "
        "AND NOT (state = 'paused' AND paused_from = 'preparing'))"
    )
    op.execute(
        "UPDATE tasks SET state = 'cancelled' WHERE state IN ('pending', 'leased') AND kind IN ('prepare', 'train') "
        "AND EXISTS (SELECT 1 FROM campaigns WHERE campaigns.id = tasks.campaign_id "
        "AND ((tasks.kind = 'train' AND tasks.round <= campaigns.rounds_closed) "
        "OR (tasks.kind = 'prepare' AND campaigns.contract IS NOT NULL)))"
    )
    op.drop_column("participants", "set_aside_until")
    op.drop_column("participants", "failures_in_a_row")
    op.drop_column("participants", "joined_round")
    op.drop_column("tasks", "counts_in")


def _without_stragglers(spec: dict[str, Any]) -> dict[str, Any]:
    """Earlier versions refuse sections of a campaign file that they do not know."""
    return {name: section for name, section in spec.items() if name != "stragglers"}


def _of_a_known_kind(failure: dict[str, Any]) -> dict[str, Any] | None:
    """Earlier versions have no failures of work that came late, and refuse kinds that they do not know."""
    kind = failure.get("kind")
    if kind == "late":
        return None
    return {**failure, "kind": "crash"} if kind == "transfer" else failure


def _say_as_before(table_name: str, column: str, as_before: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    connection = op.get_bind()
    table = sa.table(table_name, sa.column("id", sa.String), sa.column(column, sa.JSON))
    said = connection.execute(sa.select(table.c.id, table.c[column]).where(table.c[column].is_not(None)))
    for row_id, value in said.all():
        if value is not None and (changed := as_before(value)) != value:
            now = sa.null() if changed is None else changed
            connection.execute(table.update().where(table.c.id == row_id).values({column: now}))
