"""The campaigns that this agent was asked to take part in, and what its owner decided."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from sqlite3 import Connection
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from agent.orders.job import RowDigests
from agent.record.database import RecordDatabase
from shared.campaign.sections import FROM_COORDINATOR
from shared.campaign.spec import BaseSection, CampaignSpec, CpuDtype
from shared.wire.tasks.results import Fingerprint

MIN_DIGEST = 6
"""The fewest characters of a digest by which a person may name a campaign."""


MAX_WAITING = 100
"""The most campaigns that wait in the record: an owner decides about few, and each takes space."""


MAX_BY_RULES = 1000
"""The most campaigns that the settings accepted and that no work was done for."""


class Decision(StrEnum):
    """What was decided about a campaign. A paused one is accepted, and gets no work for now."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    PAUSED = "paused"
    LEFT = "left"


class Decider(StrEnum):
    """Who decided: the owner by hand, or the settings."""

    OWNER = "owner"
    RULES = "rules"


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Terms(_Facts):
    """Facts of a campaign outside its specification, by the coordinator's word."""

    agent_id: str
    """The agent's id when it was asked. After a new enrolment, at this coordinator or another, it is asked again."""
    created_on: date
    plain_client: bool
    mixes_ranks: bool
    participants: list[str]
    n_participants: int


class Prepared(_Facts):
    """What the first preparation found. Later tasks of the campaign stand on it."""

    fingerprint: Fingerprint
    rank: int
    cpu_dtype: CpuDtype | None = None
    """Precision of the base model on a CPU; None if the preparation was on another device."""
    n_train: int
    n_held_out: int
    n_distinct: int
    """Distinct training rows, after tokenisation."""
    n_distinct_held_out: int
    """Distinct held-out rows."""
    rows: RowDigests = RowDigests()
    """Digests of the tokenised rows."""


@dataclass(frozen=True)
class KnownCampaign:
    """A campaign as the record has it."""

    id: str
    coordinator: str
    name: str
    spec_sha256: str
    spec: CampaignSpec
    terms: Terms
    asked_at: datetime
    decision: Decision
    decided_by: Decider | None
    decided_at: datetime | None
    pool: int | None
    prepared: Prepared | None

    @property
    def base(self) -> BaseSection:
        """The base model as this agent works with it: once it has prepared, always in the precision of then."""
        return self.spec.base if self.prepared is None else self.spec.base.decided(self.prepared.cpu_dtype)

    @classmethod
    def of(cls, row: Any) -> Self:
        """The campaign of a row of the table."""
        return cls(
            id=row["id"],
            coordinator=row["coordinator"],
            name=row["name"],
            spec_sha256=row["spec_sha256"],
            spec=_parsed_spec(row["spec"]),
            terms=_parsed_terms(row["terms"]),
            asked_at=datetime.fromisoformat(row["asked_at"]),
            decision=Decision(row["decision"]),
            decided_by=Decider(row["decided_by"]) if row["decided_by"] else None,
            decided_at=datetime.fromisoformat(row["decided_at"]) if row["decided_at"] else None,
            pool=row["pool"],
            prepared=_parsed_preparation(row["prepared"]) if row["prepared"] else None,
        )


@lru_cache(maxsize=32)
def _parsed_spec(text: str) -> CampaignSpec:
    """A specification as the record has it. Each task asks for it several times."""
    return CampaignSpec.model_validate(json.loads(text), context=FROM_COORDINATOR)


@lru_cache(maxsize=32)
def _parsed_terms(text: str) -> Terms:
    return Terms.model_validate_json(text)


@lru_cache(maxsize=32)
def _parsed_preparation(text: str) -> Prepared:
    return Prepared.model_validate_json(text)


class CampaignRecord:
    """The table of campaigns."""

    def __init__(self, database: RecordDatabase) -> None:
        self._database = database

    def find(self, campaign_id: str) -> KnownCampaign | None:
        """The campaign of an id; None if this agent was never asked, or its owner had it forgotten."""
        with self._database.read() as connection:
            row = connection.execute("SELECT * FROM campaigns WHERE id = ?", (campaign_id,)).fetchone()
        return KnownCampaign.of(row) if row is not None else None

    def waiting(self) -> list[KnownCampaign]:
        """The campaigns that nothing was decided about, the earliest first."""
        query = "SELECT * FROM campaigns WHERE decision = 'waiting' ORDER BY asked_at, id"
        with self._database.read() as connection:
            return [KnownCampaign.of(row) for row in connection.execute(query)]

    def all(self) -> Iterator[KnownCampaign]:
        """All campaigns, the latest first."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT * FROM campaigns ORDER BY asked_at DESC, id DESC").fetchall()
        return map(KnownCampaign.of, rows)

    def named(self, text: str) -> list[KnownCampaign]:
        """The campaigns that a person may mean: by id, by name, or by a digest that begins so.

        None of these goes before another: the coordinator chooses ids and names, and may choose those of others.
        """
        wanted = text.lower()
        return [
            each
            for each in self.all()
            if each.id.lower() == wanted
            or each.name == text
            or (len(wanted) >= MIN_DIGEST and each.spec_sha256.startswith(wanted))
        ]

    def add(self, campaign_id: str, coordinator: str, spec_sha256: str, spec: CampaignSpec, terms: Terms) -> None:
        """Note a campaign that waits for its owner. One that is known with another specification waits again.

        Only the latest MAX_WAITING are kept of those that wait, and the latest MAX_BY_RULES of those that no work was
        done for: a coordinator can name as many as it likes.

        Args:
            campaign_id: its id.
            coordinator: URL of the coordinator that asked.
            spec_sha256: digest of the specification.
            spec: the whole specification.
            terms: what else the coordinator said of it.
        """
        values = (coordinator, spec.name, spec_sha256, spec.model_dump_json(), terms.model_dump_json(), _now())
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO campaigns (id, coordinator, name, spec_sha256, spec, terms, asked_at, decision) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting') ON CONFLICT (id) DO UPDATE SET "
                "coordinator = excluded.coordinator, name = excluded.name, spec_sha256 = excluded.spec_sha256, "
                "spec = excluded.spec, terms = excluded.terms, asked_at = excluded.asked_at, decision = 'waiting', "
                "decided_by = NULL, decided_at = NULL, prepared = NULL",
                (campaign_id, *values),
            )
            connection.execute(
                "DELETE FROM campaigns WHERE decision = 'waiting' AND id NOT IN "
                "(SELECT id FROM campaigns WHERE decision = 'waiting' ORDER BY asked_at DESC, id DESC LIMIT ?)",
                (MAX_WAITING,),
            )
            connection.execute(
                "DELETE FROM campaigns WHERE decided_by = 'rules' AND id NOT IN (SELECT campaign FROM bookings) "
                "AND id NOT IN (SELECT campaign FROM benchmarks) AND id NOT IN (SELECT id FROM campaigns "
                "WHERE decided_by = 'rules' ORDER BY asked_at DESC, id DESC LIMIT ?)",
                (MAX_BY_RULES,),
            )

    def decide(self, known: KnownCampaign, decision: Decision, decider: Decider) -> bool:
        """Record a decision on a campaign. Returns False, and records nothing, if it is no longer as it is known.

        Nobody decides over the head of another: neither the specification nor the decision may have changed meanwhile.
        The settings decide nothing about a campaign of which the owner said no.
        """
        with self._database.write() as connection:
            if decider is Decider.RULES and _is_declined(connection, known.id):
                return False
            changed = connection.execute(
                "UPDATE campaigns SET decision = ?, decided_by = ?, decided_at = ? "
                "WHERE id = ? AND spec_sha256 = ? AND decision = ?",
                (decision, decider, _now(), known.id, known.spec_sha256, known.decision),
            )
            if changed.rowcount == 1 and decider is Decider.OWNER:
                _note_word(connection, known.id, is_no=decision is not Decision.ACCEPTED)
            return changed.rowcount == 1

    def bind(self, campaign_id: str, pool: int) -> None:
        """Record which rows a campaign works on."""
        self._set(campaign_id, "pool", pool)

    def set_prepared(self, campaign_id: str, prepared: Prepared) -> None:
        """Record what the preparation found."""
        self._set(campaign_id, "prepared", prepared.model_dump_json())

    def forget(self, campaign_id: str) -> bool:
        """Delete a campaign, but not what was booked for it. Returns whether it was known.

        The settings do not accept it by themselves if it asks again.
        """
        with self._database.write() as connection:
            _note_word(connection, campaign_id, is_no=True)
            return connection.execute("DELETE FROM campaigns WHERE id = ?", (campaign_id,)).rowcount == 1

    def _set(self, campaign_id: str, column: str, value: object) -> None:
        with self._database.write() as connection:
            statement = f"UPDATE campaigns SET {column} = ? WHERE id = ? AND {column} IS NOT ?"  # noqa: S608
            connection.execute(statement, (value, campaign_id, value))


def _is_declined(connection: Connection, campaign_id: str) -> bool:
    """Whether the latest that the owner said of a campaign was no."""
    return connection.execute("SELECT 1 FROM declined WHERE campaign = ?", (campaign_id,)).fetchone() is not None


def _note_word(connection: Connection, campaign_id: str, *, is_no: bool) -> None:
    """Keep what the owner said by hand, whatever the campaign says of itself later."""
    statement = "INSERT OR IGNORE INTO declined VALUES (?)" if is_no else "DELETE FROM declined WHERE campaign = ?"
    connection.execute(statement, (campaign_id,))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
