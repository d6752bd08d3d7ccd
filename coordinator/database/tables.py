"""ORM classes of the tables. The migrations create the tables; a test compares the two."""

import enum
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Enum, ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from coordinator.database.columns import (
    BigWholeNumber,
    CampaignFile,
    Document,
    Key,
    LongText,
    RealNumber,
    Sentence,
    ShortText,
    UtcTime,
    WholeNumber,
)
from coordinator.database.parsed_specs import parsed_spec, parsed_spec_sha256
from shared.campaign.spec import CampaignSpec, CpuDtype
from shared.metrics import HELD_OUT_LOSS, ReportLevel
from shared.states import (
    AgentState,
    BlobKind,
    CampaignState,
    ParticipantState,
    RoundState,
    TaskKind,
    TaskState,
    VerificationState,
)
from shared.wire.verification import Outcome

_ID = Key(40)
_SHA256 = Key(64)
_ONE_A_ROUND = "kind <> 'benchmark' AND round IS NOT NULL AND state IN ('pending', 'leased', 'held', 'done')"
"""SQL: an agent has one task of the kind in a round. Of benchmarks it may have another: those that failed elsewhere."""


class Base(DeclarativeBase):
    """Base class of all tables."""

    type_annotation_map = {  # noqa: RUF012
        datetime: UtcTime,
        int: WholeNumber,
        float: RealNumber,
        dict[str, Any]: Document,
        list[Any]: Document,
        enum.Enum: Enum(enum.Enum, native_enum=False, length=20, values_callable=lambda kind: [m.value for m in kind]),
    }


class OperatorKeyRow(Base):
    """An operator key."""

    __tablename__ = "operator_keys"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    key_hash: Mapped[str] = mapped_column(_SHA256, unique=True)
    created_at: Mapped[datetime]


class EnrollmentTokenRow(Base):
    """A one-time enrolment token."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    token_hash: Mapped[str] = mapped_column(_SHA256, unique=True)
    labels: Mapped[dict[str, Any]]
    note: Mapped[str] = mapped_column(ShortText(200))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    used_by: Mapped[str | None] = mapped_column(ShortText(63))


class AgentRow(Base):
    """A registered agent."""

    __tablename__ = "agents"
    __table_args__ = (
        Index(
            "agents_active_name",
            "name",
            unique=True,
            sqlite_where=text("state = 'active'"),
            postgresql_where=text("state = 'active'"),
        ),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    name: Mapped[str] = mapped_column(ShortText(63))
    labels: Mapped[dict[str, Any]]
    state: Mapped[AgentState]
    secret_hash: Mapped[str] = mapped_column(_SHA256, unique=True)
    version: Mapped[str] = mapped_column(ShortText(40))
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime | None]


class CampaignRow(Base):
    """A campaign. Its row is the lock of the whole campaign: every change of a part of it locks this row first.

    due_at: time of the next tick; None if only a notification makes the campaign due. claim_token,
    claim_expires_at: claim of the engine that is aggregating. last_event: number of the newest event. n_statements,
    last_statement: how many were signed, and the digest of the newest. contract: the adapters' contract as JSON;
    None before adapter 0 exists. n_clients: how many clients take part; ``client_count`` says which. history: rises
    with each rollback and restore, without which agents begin no round again. new_agents: whether agents enrolled since
    the last invitations. ends_after: the round after which it finishes early; None means that of the campaign file.
    ends_because: who or what ends it early, in words. benchmark_items: digest of the items of each benchmark, by its
    name, once a first number has settled them.
    """

    __tablename__ = "campaigns"
    __table_args__ = (Index("campaigns_due", "due_at"),)

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    name: Mapped[str] = mapped_column(ShortText(63), index=True)
    spec_json: Mapped[dict[str, Any]] = mapped_column(CampaignFile)
    state: Mapped[CampaignState]
    paused_from: Mapped[CampaignState | None]
    reason: Mapped[str | None] = mapped_column(Sentence)
    created_at: Mapped[datetime]
    resumed_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    idempotency_key: Mapped[str | None] = mapped_column(ShortText(100), unique=True)
    fingerprint: Mapped[dict[str, Any] | None]
    contract: Mapped[str | None] = mapped_column(LongText)
    rounds_closed: Mapped[int] = mapped_column(default=0)
    n_clients: Mapped[int] = mapped_column(default=0)
    history: Mapped[int] = mapped_column(default=0)
    ends_after: Mapped[int | None]
    ends_because: Mapped[str | None] = mapped_column(Sentence)
    benchmark_items: Mapped[dict[str, Any]] = mapped_column(default=dict)
    final_adapter: Mapped[int | None]
    best_adapter: Mapped[int | None]
    last_event: Mapped[int] = mapped_column(default=0)
    n_statements: Mapped[int] = mapped_column(default=0)
    last_statement: Mapped[str | None] = mapped_column(_SHA256)
    due_at: Mapped[datetime | None]
    new_agents: Mapped[bool] = mapped_column(default=True)
    claim_token: Mapped[str | None] = mapped_column(_ID)
    claim_expires_at: Mapped[datetime | None]

    @property
    def spec(self) -> CampaignSpec:
        """The campaign file."""
        return parsed_spec(self.id, self.spec_json)

    @property
    def spec_sha256(self) -> str:
        """The digest of the campaign file, and of the day."""
        return parsed_spec_sha256(self.id, self.spec, self.created_on)

    @property
    def created_on(self) -> date:
        """The day on which the campaign was created (UTC), which templates see."""
        return self.created_at.astimezone(UTC).date()

    @property
    def last_round(self) -> int:
        """The round after which the campaign finishes: the operator's, otherwise that of the campaign file."""
        return self.spec.rounds if self.ends_after is None else self.ends_after


class ParticipantRow(Base):
    """An agent's part in a campaign.

    rank: the rank that it trains; None until it is prepared. cpu_dtype: the precision of its base model on a CPU, as it
    answered in ``prepare``; None before, and if it prepared on another device. joined_round: the first round in which
    it is a client.
    committed_update_sha256: its last delta that counted; its client state belongs to that delta. failures_in_a_row:
    rounds in which it failed since its last update. set_aside_until: the last round for which it is set aside.
    report, evaluates: what its owner lets out, and whether it evaluates, as it answered in ``prepare``. update_round,
    update_weight: the round for which its last aggregated update was trained, and its weight. evaluated_adapter: the
    newest adapter that it evaluated.
    lost_state_in: the round in which it reported the loss of its client state, which it may do once. weight_share: its
    part of the weight of all clients when the last round opened. offers: the benchmarks that it runs, by name, as it
    offered them.
    """

    __tablename__ = "participants"
    __table_args__ = (UniqueConstraint("campaign_id", "client_number", name="participants_client_number"),)

    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.id"), primary_key=True)
    agent_name: Mapped[str] = mapped_column(ShortText(63))
    state: Mapped[ParticipantState]
    client_number: Mapped[int | None]
    n_train: Mapped[int | None]
    n_held_out: Mapped[int | None]
    rank: Mapped[int | None]
    cpu_dtype: Mapped[CpuDtype | None] = mapped_column(ShortText(8))
    fingerprint: Mapped[dict[str, Any] | None]
    joined_round: Mapped[int | None]
    committed_update_sha256: Mapped[str | None] = mapped_column(_SHA256)
    failures_in_a_row: Mapped[int] = mapped_column(default=0)
    set_aside_until: Mapped[int | None]
    report: Mapped[ReportLevel | None] = mapped_column(ShortText(8))
    evaluates: Mapped[bool | None]
    update_round: Mapped[int | None]
    update_weight: Mapped[float | None]
    evaluated_adapter: Mapped[int | None]
    lost_state_in: Mapped[int | None]
    weight_share: Mapped[float | None]
    offers: Mapped[dict[str, Any]] = mapped_column(default=dict)
    reason: Mapped[str | None] = mapped_column(Sentence)


class RoundRow(Base):
    """A round. eligible, sampled: client numbers."""

    __tablename__ = "rounds"

    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[RoundState]
    opened_at: Mapped[datetime]
    deadline_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    learning_rate: Mapped[float]
    eligible: Mapped[list[Any]]
    sampled: Mapped[list[Any]]


class TaskRow(Base):
    """A task of one agent, with its lease.

    round: for `evaluate` and `benchmark`, the adapter's number. counts_in: the round whose aggregation uses the
    update, a later one for a late update; None until the set of updates is fixed. next_grant_at: before that time
    no lease of it is granted again. renewed_at: when the lease was last renewed. held_at: when the agent's owner
    last kept the update back. benchmarks: names of those that a `benchmark` task runs.
    """

    __tablename__ = "tasks"
    __table_args__ = (
        Index("tasks_by_agent", "agent_id", "state"),
        Index("tasks_by_campaign", "campaign_id", "kind", "round"),
        Index("tasks_open", "campaign_id", "kind", "state", "counts_in"),
        Index("tasks_leased", "state", "lease_expires_at"),
        Index(
            "tasks_one_update_a_round",
            "campaign_id",
            "kind",
            "round",
            "agent_id",
            unique=True,
            sqlite_where=text(_ONE_A_ROUND),
            postgresql_where=text(_ONE_A_ROUND),
        ),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaigns.id"))
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.id"))
    kind: Mapped[TaskKind]
    state: Mapped[TaskState]
    round: Mapped[int | None]
    benchmarks: Mapped[list[Any] | None]
    attempt: Mapped[int] = mapped_column(default=0)
    token_hash: Mapped[str | None] = mapped_column(_SHA256)
    instance_id: Mapped[str | None] = mapped_column(ShortText(64))
    lease_expires_at: Mapped[datetime | None]
    renewed_at: Mapped[datetime | None]
    next_grant_at: Mapped[datetime | None]
    held_at: Mapped[datetime | None]
    progress: Mapped[dict[str, Any] | None]
    failure: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    counts_in: Mapped[int | None]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class UploadRow(Base):
    """An unfinished upload, one for each kind of file of a task. It belongs to the task, so a later attempt continues
    where an earlier one stopped."""

    __tablename__ = "uploads"
    __table_args__ = (UniqueConstraint("task_id", "purpose", name="uploads_one_per_file"),)

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"))
    purpose: Mapped[BlobKind]
    sha256: Mapped[str] = mapped_column(_SHA256)
    n_bytes: Mapped[int] = mapped_column(BigWholeNumber)
    offset: Mapped[int] = mapped_column(BigWholeNumber, default=0)
    updated_at: Mapped[datetime]


class BlobUseRow(Base):
    """A campaign's use of a blob. The bytes are deleted with their last stored use; the row stays."""

    __tablename__ = "blob_uses"
    __table_args__ = (
        Index("blob_uses_by_sha256", "sha256", "stored", "kind"),
        Index("blob_uses_stored", "campaign_id", "stored", "kind", "round"),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaigns.id"))
    kind: Mapped[BlobKind]
    round: Mapped[int]
    task_id: Mapped[str | None] = mapped_column(ForeignKey("tasks.id"))
    sha256: Mapped[str] = mapped_column(_SHA256)
    n_bytes: Mapped[int] = mapped_column(BigWholeNumber)
    stored: Mapped[bool] = mapped_column(default=True)


class AdapterRow(Base):
    """A global adapter and its lineage.

    broadcast, state: the algorithm's files beside it. metrics: those of its evaluation, averaged over the clients,
    and of benchmarks, or empty. n_clients, of_clients: how many clients those means are over, and how many there
    were. benchmarks: where each ran and on how much, by its name. stop_best, stop_waited: how the rule that ends
    the campaign stood after it: the best adapter so far, and the evaluations since. evaluating: whether evaluations
    are under way. origin: for an adapter 0 that comes from another campaign, that campaign and the adapter's number
    there.
    """

    __tablename__ = "adapters"
    __table_args__ = (Index("adapters_evaluating", "campaign_id", "evaluating"),)

    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(_SHA256)
    n_bytes: Mapped[int] = mapped_column(BigWholeNumber)
    broadcast_sha256: Mapped[str | None] = mapped_column(_SHA256)
    broadcast_bytes: Mapped[int | None] = mapped_column(BigWholeNumber)
    state_sha256: Mapped[str | None] = mapped_column(_SHA256)
    parent_sha256: Mapped[str | None] = mapped_column(_SHA256)
    contributions: Mapped[list[Any]]
    created_at: Mapped[datetime]
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    n_clients: Mapped[int | None]
    of_clients: Mapped[int | None]
    benchmarks: Mapped[dict[str, Any]] = mapped_column(default=dict)
    stop_best: Mapped[int | None]
    stop_waited: Mapped[int | None]
    evaluating: Mapped[bool] = mapped_column(default=False)
    origin_campaign_id: Mapped[str | None] = mapped_column(_ID)
    origin_number: Mapped[int | None]

    @property
    def held_out_loss(self) -> float | None:
        """The mean held-out loss; None if it was not evaluated."""
        return self.metrics.get(HELD_OUT_LOSS)


class VerificationRow(Base):
    """A job of the engine: verify rounds of a campaign. Its row is the lock of the job and of its rounds; a transaction
    that locks the campaign too locks the campaign first.

    requested: the round numbers of the request, ascending; None for all closed rounds. due_at: when an engine may
    continue; None once it has ended. claim_token, claim_expires_at: the engine that works on it.
    """

    __tablename__ = "verifications"
    __table_args__ = (
        Index("verifications_by_campaign", "campaign_id", "state"),
        Index("verifications_due", "due_at"),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaigns.id"))
    state: Mapped[VerificationState]
    requested: Mapped[list[Any] | None]
    reason: Mapped[str | None] = mapped_column(Sentence)
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    claim_token: Mapped[str | None] = mapped_column(_ID)
    claim_expires_at: Mapped[datetime | None]


class VerifiedRoundRow(Base):
    """One round of a verification. adapter_sha256: recorded when the job was made. outcome: None until it is known."""

    __tablename__ = "verified_rounds"

    verification_id: Mapped[str] = mapped_column(ForeignKey("verifications.id"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    adapter_sha256: Mapped[str] = mapped_column(_SHA256)
    outcome: Mapped[Outcome | None]
    computed_sha256: Mapped[str | None] = mapped_column(_SHA256)
    reason: Mapped[str | None] = mapped_column(Sentence)


class StatementRow(Base):
    """A statement of a campaign, as JSON; it is signed when it is read."""

    __tablename__ = "statements"

    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(LongText)


class SigningKeyRow(Base):
    """The public half of a signing key. Statements are signed by the newest, whose id is the highest."""

    __tablename__ = "signing_keys"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    public_key: Mapped[str] = mapped_column(_SHA256, unique=True)
    created_at: Mapped[datetime]


class BlobRow(Base):
    """A blob in the database. The row is written last, so a blob is stored completely or not at all."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(_SHA256, primary_key=True)
    n_bytes: Mapped[int] = mapped_column(BigWholeNumber)


class BlobChunkRow(Base):
    """A chunk of a blob or of an unfinished upload. blob: a digest, or ``upload:`` and an upload's id."""

    __tablename__ = "blob_chunks"

    blob: Mapped[str] = mapped_column(Key(80), primary_key=True)
    offset: Mapped[int] = mapped_column(BigWholeNumber, primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class MetricRow(Base):
    """A metric of one client or of a whole round.

    n_clients, of_clients: of a mean, how many clients' values it is over, and how many took part.
    """

    __tablename__ = "metrics"
    __table_args__ = (
        Index("metrics_by_campaign", "campaign_id", "round", "name"),
        Index("metrics_in_order", "campaign_id", "id"),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaigns.id"))
    round: Mapped[int]
    name: Mapped[str] = mapped_column(ShortText(40))
    client_number: Mapped[int | None]
    agent_name: Mapped[str | None] = mapped_column(ShortText(63))
    value: Mapped[float]
    n_clients: Mapped[int | None]
    of_clients: Mapped[int | None]
    at: Mapped[datetime]


class GainRow(Base):
    """What an owner gains by an adapter, by its own word: held-out losses on its rows.

    number: the adapter's. base, alone, adapter: of the bare base model, of the model that the owner trained alone, and
    of the adapter.
    """

    __tablename__ = "gains"
    __table_args__ = (UniqueConstraint("campaign_id", "number", "agent_id", name="gains_one_each"),)

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaigns.id"))
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.id"))
    number: Mapped[int]
    base: Mapped[float]
    alone: Mapped[float]
    adapter: Mapped[float]
    at: Mapped[datetime]


class EventRow(Base):
    """An event. Numbers have no gaps within a campaign, positions have none over all campaigns.

    position: rises in the order of the commits; ``events.log`` says how.
    """

    __tablename__ = "events"
    __table_args__ = (Index("events_by_position", "position", unique=True), Index("events_by_time", "at"))

    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BigWholeNumber)
    at: Mapped[datetime]
    type: Mapped[str] = mapped_column(ShortText(40))
    data: Mapped[dict[str, Any]]


class EventCountRow(Base):
    """The number of events of all campaigns, in one row. Its lock orders their commits."""

    __tablename__ = "event_counts"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n_events: Mapped[int] = mapped_column(BigWholeNumber)
