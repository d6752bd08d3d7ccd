"""The schema.

Revision ID: 1_d9363e
Revises:
"""

import sqlalchemy as sa
from alembic import op

# Until a release the schema is rewritten in place; the digest of its tables tells databases of other code apart.
revision = "1_d9363e"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
STATE = sa.String(length=20)
ONE_A_ROUND = sa.text("kind <> 'benchmark' AND round IS NOT NULL AND state IN ('pending', 'leased', 'held', 'done')")


def upgrade() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("last_seen_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("secret_hash"),
    )
    op.create_index(
        "agents_active_name",
        "agents",
        ["name"],
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_table(
        "blob_chunks",
        sa.Column("blob", sa.String(length=80), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("blob", "offset"),
    )
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_table(
        "campaigns",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("spec_json", sa.JSON(), nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("paused_from", STATE, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("resumed_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("idempotency_key", sa.String(length=100), nullable=True),
        sa.Column("fingerprint", sa.JSON(), nullable=True),
        sa.Column("contract", sa.Text(), nullable=True),
        sa.Column("rounds_closed", sa.Integer(), nullable=False),
        sa.Column("n_clients", sa.Integer(), nullable=False),
        sa.Column("history", sa.Integer(), nullable=False),
        sa.Column("ends_after", sa.Integer(), nullable=True),
        sa.Column("ends_because", sa.Text(), nullable=True),
        sa.Column("benchmark_items", sa.JSON(), nullable=False),
        sa.Column("final_adapter", sa.Integer(), nullable=True),
        sa.Column("best_adapter", sa.Integer(), nullable=True),
        sa.Column("last_event", sa.Integer(), nullable=False),
        sa.Column("n_statements", sa.Integer(), nullable=False),
        sa.Column("last_statement", sa.String(length=64), nullable=True),
        sa.Column("due_at", TIME, nullable=True),
        sa.Column("new_agents", sa.Boolean(), nullable=False),
        sa.Column("claim_token", sa.String(length=40), nullable=True),
        sa.Column("claim_expires_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("idempotency_key"),
    )
    op.create_index("campaigns_due", "campaigns", ["due_at"], unique=False)
    op.create_index(op.f("ix_campaigns_name"), "campaigns", ["name"], unique=False)
    op.create_table(
        "operator_keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_hash"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("note", sa.String(length=200), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("used_at", TIME, nullable=True),
        sa.Column("used_by", sa.String(length=63), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_table(
        "adapters",
        sa.Column("campaign_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("broadcast_sha256", sa.String(length=64), nullable=True),
        sa.Column("broadcast_bytes", sa.BigInteger(), nullable=True),
        sa.Column("state_sha256", sa.String(length=64), nullable=True),
        sa.Column("parent_sha256", sa.String(length=64), nullable=True),
        sa.Column("contributions", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("n_clients", sa.Integer(), nullable=True),
        sa.Column("of_clients", sa.Integer(), nullable=True),
        sa.Column("benchmarks", sa.JSON(), nullable=False),
        sa.Column("stop_best", sa.Integer(), nullable=True),
        sa.Column("stop_waited", sa.Integer(), nullable=True),
        sa.Column("evaluating", sa.Boolean(), nullable=False),
        sa.Column("origin_campaign_id", sa.String(length=40), nullable=True),
        sa.Column("origin_number", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.id"],
        ),
        sa.PrimaryKeyConstraint("campaign_id", "number"),
    )
    op.create_index("adapters_evaluating", "adapters", ["campaign_id", "evaluating"], unique=False)
    op.create_table(
        "events",
        sa.Column("campaign_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.id"],
        ),
        sa.PrimaryKeyConstraint("campaign_id", "number"),
    )
    op.create_index("events_by_position", "events", ["position"], unique=True)
    op.create_index("events_by_time", "events", ["at"], unique=False)
    op.create_table(
        "event_counts",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n_events", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "metrics",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("campaign_id", sa.String(length=40), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("client_number", sa.Integer(), nullable=True),
        sa.Column("agent_name", sa.String(length=63), nullable=True),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("n_clients", sa.Integer(), nullable=True),
        sa.Column("of_clients", sa.Integer(), nullable=True),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("metrics_by_campaign", "metrics", ["campaign_id", "round", "name"], unique=False)
    op.create_index("metrics_in_order", "metrics", ["campaign_id", "id"], unique=False)
    op.create_table(
        "participants",
        sa.Column("campaign_id", sa.String(length=40), nullable=False),
        sa.Column("agent_id", sa.String(length=40), nullable=False),
        sa.Column("agent_name", sa.String(length=63), nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("client_number", sa.Integer(), nullable=True),
        sa.Column("n_train", sa.Integer(), nullable=True),
        sa.Column("n_held_out", sa.Integer(), nullable=True),
        sa.Column("rank", sa.Integer(), nullable=True),
        sa.Column("cpu_dtype", sa.String(length=8), nullable=True),
        sa.Column("fingerprint", sa.JSON(), nullable=True),
        sa.Column("joined_round", sa.Integer(), nullable=True),
        sa.Column("committed_update_sha256", sa.String(length=64), nullable=True),
        sa.Column("failures_in_a_row", sa.Integer(), nullable=False),
        sa.Column("set_aside_until", sa.Integer(), nullable=True),
        sa.Column("report", sa.String(length=8), nullable=True),
        sa.Column("evaluates", sa.Boolean(), nullable=True),
        sa.Column("update_round", sa.Integer(), nullable=True),
        sa.Column("update_weight", sa.Double(), nullable=True),
        sa.Column("evaluated_adapter", sa.Integer(), nullable=True),
        sa.Column("lost_state_in", sa.Integer(), nullable=True),
        sa.Column("weight_share", sa.Double(), nullable=True),
        sa.Column("offers", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["agent_id"],
            ["agents.id"],
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.id"],
        ),
        sa.PrimaryKeyConstraint("campaign_id", "agent_id"),
        sa.UniqueConstraint("campaign_id", "client_number", name="participants_client_number"),
    )
    op.create_table(
        "rounds",
        sa.Column("campaign_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("deadline_at", TIME, nullable=False),
        sa.Column("closed_at", TIME, nullable=True),
        sa.Column("learning_rate", sa.Double(), nullable=False),
        sa.Column("eligible", sa.JSON(), nullable=False),
        sa.Column("sampled", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.id"],
        ),
        sa.PrimaryKeyConstraint("campaign_id", "number"),
    )
    op.create_table(
        "verifications",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("campaign_id", sa.String(length=40), nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("requested", sa.JSON(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("due_at", TIME, nullable=True),
        sa.Column("claim_token", sa.String(length=40), nullable=True),
        sa.Column("claim_expires_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("verifications_by_campaign", "verifications", ["campaign_id", "state"], unique=False)
    op.create_index("verifications_due", "verifications", ["due_at"], unique=False)
    op.create_table(
        "verified_rounds",
        sa.Column("verification_id", sa.String(length=40), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("adapter_sha256", sa.String(length=64), nullable=False),
        sa.Column("outcome", STATE, nullable=True),
        sa.Column("computed_sha256", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["verification_id"],
            ["verifications.id"],
        ),
        sa.PrimaryKeyConstraint("verification_id", "round"),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("campaign_id", sa.String(length=40), nullable=False),
        sa.Column("agent_id", sa.String(length=40), nullable=False),
        sa.Column("kind", STATE, nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("round", sa.Integer(), nullable=True),
        sa.Column("benchmarks", sa.JSON(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=True),
        sa.Column("instance_id", sa.String(length=64), nullable=True),
        sa.Column("lease_expires_at", TIME, nullable=True),
        sa.Column("renewed_at", TIME, nullable=True),
        sa.Column("next_grant_at", TIME, nullable=True),
        sa.Column("held_at", TIME, nullable=True),
        sa.Column("progress", sa.JSON(), nullable=True),
        sa.Column("failure", sa.JSON(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("counts_in", sa.Integer(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["agent_id"],
            ["agents.id"],
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("tasks_by_agent", "tasks", ["agent_id", "state"], unique=False)
    op.create_index("tasks_by_campaign", "tasks", ["campaign_id", "kind", "round"], unique=False)
    op.create_index("tasks_leased", "tasks", ["state", "lease_expires_at"], unique=False)
    op.create_index("tasks_open", "tasks", ["campaign_id", "kind", "state", "counts_in"], unique=False)
    op.create_index(
        "tasks_one_update_a_round",
        "tasks",
        ["campaign_id", "kind", "round", "agent_id"],
        unique=True,
        sqlite_where=ONE_A_ROUND,
        postgresql_where=ONE_A_ROUND,
    )
    op.create_table(
        "blob_uses",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("campaign_id", sa.String(length=40), nullable=False),
        sa.Column("kind", STATE, nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(length=40), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.id"],
        ),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["tasks.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("blob_uses_by_sha256", "blob_uses", ["sha256", "stored", "kind"], unique=False)
    op.create_index("blob_uses_stored", "blob_uses", ["campaign_id", "stored", "kind", "round"], unique=False)
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("task_id", sa.String(length=40), nullable=False),
        sa.Column("purpose", STATE, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["tasks.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task_id", "purpose", name="uploads_one_per_file"),
    )
    op.create_table(
        "statements",
        sa.Column("campaign_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.id"],
        ),
        sa.PrimaryKeyConstraint("campaign_id", "number"),
    )
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("public_key"),
    )
    op.create_table(
        "gains",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("campaign_id", sa.String(length=40), nullable=False),
        sa.Column("agent_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("base", sa.Double(), nullable=False),
        sa.Column("alone", sa.Double(), nullable=False),
        sa.Column("adapter", sa.Double(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.id"],
        ),
        sa.ForeignKeyConstraint(
            ["agent_id"],
            ["agents.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("campaign_id", "number", "agent_id", name="gains_one_each"),
    )


def downgrade() -> None:
    op.drop_table("gains")
    for table in (
        *(
            "statements",
            "signing_keys",
            "verified_rounds",
            "verifications",
            "uploads",
            "blob_uses",
            "tasks",
            "rounds",
            "participants",
            "metrics",
        ),
        *(
            "events",
            "event_counts",
            "adapters",
            "tokens",
            "operator_keys",
            "campaigns",
            "blobs",
            "blob_chunks",
            "agents",
        ),
    ):
        op.drop_table(table)
