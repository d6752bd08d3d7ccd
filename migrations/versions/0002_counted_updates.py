"""Which delta of a participant counted last: what its agent keeps between rounds belongs to that one.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("participants", sa.Column("counted_sha256", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.execute("UPDATE tasks SET state = 'cancelled' WHERE state = 'superseded'")  # which earlier versions cannot read
    op.drop_column("participants", "counted_sha256")
