"""State machines: all legal moves of campaigns, rounds, tasks and participants, and the lock of a campaign.

Only ``move`` changes a state. It is compare-and-set: the ``UPDATE`` matches only the expected current state. If another
transaction was faster, ``move`` changes nothing and raises IllegalMove.

    campaign     preparing → initializing → running → finishing → completed
                 each of the first four ⇄ paused; any state that is not final → cancelled
                 running, finishing, completed → paused (by a rollback to an earlier round)
                 paused → finishing (the operator ends it early)
    round        open → aggregating → closed; open → cancelled
    task         pending → leased → done | failed; leased → pending (expired, given back); not final → cancelled;
                 by its owner: leased → held (the update is kept back) → pending (it is released);
                 any → superseded (its round was rolled back, or its late update was discarded)
    participant  preparing → prepared | failed; prepared → mismatched; failed, mismatched → preparing (on resume)
                 by its owner: preparing, prepared → waiting (to be accepted), paused, left; waiting → preparing | left;
                 paused → prepared | preparing | left; left → preparing; failed, mismatched → left
"""

from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, Protocol

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import set_committed_value

from coordinator.database.objects import Objects
from coordinator.database.prepared import Prepared, Transaction, given, given_each
from coordinator.database.tables import CampaignRow, ParticipantRow, RoundRow, TaskRow
from coordinator.errors import IllegalMove, NotFound
from shared.states import CampaignState, ParticipantState, RoundState, TaskState

C, R, T, P = CampaignState, RoundState, TaskState, ParticipantState

# Keyed by the enum first: members of two StrEnums with equal values are equal as keys.
_MOVES: dict[type[StrEnum], dict[StrEnum, set[StrEnum]]] = {
    C: {
        C.PREPARING: {C.INITIALIZING, C.PAUSED, C.CANCELLED},
        C.INITIALIZING: {C.RUNNING, C.PAUSED, C.CANCELLED},
        C.RUNNING: {C.FINISHING, C.PAUSED, C.CANCELLED},
        C.FINISHING: {C.COMPLETED, C.PAUSED, C.CANCELLED},
        C.PAUSED: {C.PREPARING, C.INITIALIZING, C.RUNNING, C.FINISHING, C.CANCELLED},
        C.COMPLETED: {C.PAUSED},
    },
    R: {
        R.OPEN: {R.AGGREGATING, R.CANCELLED},
        R.AGGREGATING: {R.CLOSED, R.CANCELLED},
    },
    T: {
        T.PENDING: {T.LEASED, T.CANCELLED, T.SUPERSEDED},
        T.LEASED: {T.LEASED, T.PENDING, T.HELD, T.DONE, T.FAILED, T.CANCELLED, T.SUPERSEDED},
        T.HELD: {T.PENDING, T.CANCELLED, T.SUPERSEDED},
        T.DONE: {T.SUPERSEDED},
        T.FAILED: {T.SUPERSEDED},
        T.CANCELLED: {T.SUPERSEDED},
    },
    P: {
        P.PREPARING: {P.PREPARED, P.FAILED, P.WAITING, P.PAUSED, P.LEFT},
        P.WAITING: {P.PREPARING, P.LEFT},
        P.PREPARED: {P.MISMATCHED, P.PAUSED, P.LEFT, P.WAITING},
        P.PAUSED: {P.PREPARED, P.PREPARING, P.LEFT},
        P.LEFT: {P.PREPARING},
        P.MISMATCHED: {P.PREPARING, P.LEFT},
        P.FAILED: {P.PREPARING, P.LEFT},
    },
}


def is_legal(state: StrEnum, to: StrEnum) -> bool:
    """Whether the table allows the move."""
    return type(state) is type(to) and to in _MOVES[type(state)].get(state, ())


ACTIVE_CAMPAIGN = (C.PREPARING, C.INITIALIZING, C.RUNNING, C.FINISHING)
"""States in which the engine works and agents get tasks."""

LIVE_TASK = (T.PENDING, T.LEASED, T.HELD)
"""States of a task that has not ended."""

OPEN_TASK = (T.PENDING, T.LEASED)
"""States of a task that its agent can get or works on."""

Row = CampaignRow | RoundRow | TaskRow | ParticipantRow


class Facts(Protocol):
    """Some columns of a row, its key and state among them. ROW: the row's class."""

    ROW: ClassVar[Any]
    state: Any


async def move(
    within: AsyncSession | Transaction,
    row: Row | Facts,
    to: StrEnum,
    *,
    fence: tuple[int, str | None] | None = None,
    **values: Any,
) -> None:
    """Move *row* to another state, and set *values* in the same statement.

    fence: attempt and token hash that a task must still have. Raises IllegalMove if the table above does not allow the
    move, or if the row's state or fence has changed since it was read.
    """
    kind: type[Row] = row.ROW if not isinstance(row, Row) else type(row)
    what = kind.__name__.removesuffix("Row").lower()
    state: StrEnum = row.state
    if not is_legal(state, to):
        raise IllegalMove(what, state, to)
    changed = {"state": to, **values}
    match = {f"of_{name}": getattr(row, name) for name in _key(kind)} | {"of_state": state}
    if fence is not None:
        match |= {"of_attempt": fence[0], "of_token_hash": fence[1]}
    statement = _moving(kind, tuple(changed), is_fenced=fence is not None)
    if await statement.first(within, **match, **changed) is None:
        raise IllegalMove(what, f"no longer {state}", to)
    for name, value in changed.items():
        if isinstance(row, Row):
            set_committed_value(row, name, value)
        else:
            setattr(row, name, value)


def _key(kind: type[Row]) -> list[str]:
    return [str(column.key) for column in kind.__mapper__.primary_key]


@cache
def _moving(kind: type[Row], changed: tuple[str, ...], *, is_fenced: bool) -> Prepared:
    """Set columns of a row whose key, state and fence are given, and return its key: no row if it has others now."""
    columns = kind.__table__.c
    match = [columns[name] == given(f"of_{name}") for name in (*_key(kind), "state")]
    if is_fenced:
        match.append(columns["attempt"] == given("of_attempt"))
        match.append(columns["token_hash"].is_not_distinct_from(given("of_token_hash")))
    return Prepared(update(kind).where(*match).values(given_each(*changed)).returning(*kind.__mapper__.primary_key))


async def lock_campaign(session: AsyncSession, campaign_id: str) -> CampaignRow:
    """Lock a campaign for the rest of the transaction. Every change of a part of a campaign locks it first.

    Lock order, which prevents deadlocks: agents before campaigns, several campaigns by id. Raises NotFound.
    """
    campaign = await _LOCK_CAMPAIGN.first(session, campaign=campaign_id)
    if campaign is None:
        raise NotFound("campaign", campaign_id)
    return campaign


def locking_campaign(*conditions: ColumnElement[bool]) -> Objects[CampaignRow]:
    """A query that locks the given ``campaign`` as ``lock_campaign`` does, if it meets the conditions once locked."""
    query = select(CampaignRow).where(CampaignRow.id == given("campaign"), *conditions)
    return Objects(query.with_for_update(), fresh=True)


_LOCK_CAMPAIGN = locking_campaign()
