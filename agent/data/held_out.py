"""Which rows are held out for evaluation, and how they may differ from those to train on."""

from collections.abc import Callable, Sequence

from agent.data.checks.notices import Occurrences
from agent.data.rows import Comparison, LocatedRow, Row
from shared.digest import sha256_of_parts


def notice_differences(rows: Sequence[LocatedRow], held_out: Sequence[LocatedRow], notices: Occurrences) -> None:
    """Notice parts that only the rows to train on have, or only those of the owner's held-out file."""
    if not (rows and held_out):
        return
    parts: dict[str, Callable[[LocatedRow], bool]] = {
        "further input": lambda located: located.row.input != "",
        "a system prompt": lambda located: any(turn.role == "system" for turn in located.row.before),
    }
    for part, has in parts.items():
        if any(map(has, rows)) != any(map(has, held_out)):
            without = held_out if any(map(has, rows)) else rows
            message = f"no row has {part}, but rows of the other file have; evaluation differs from training"
            notices.add(without[0].label, "", message)


def split_rows(
    rows: Sequence[LocatedRow], own_held_out: Sequence[LocatedRow] | None, fraction: float
) -> tuple[list[LocatedRow], list[LocatedRow]]:
    """Split rows into those to train on and those to evaluate on. No row is in both.

    Args:
        rows: the rows.
        own_held_out: the owner's own held-out rows. Rows that equal one of them are not trained on.
        fraction: the share of *rows* to hold out if *own_held_out* is None.
    """
    if own_held_out is None:
        parts: tuple[list[LocatedRow], list[LocatedRow]] = [], []
        for located in rows:
            parts[is_held_out(located.row, fraction)].append(located)
        return parts
    held_out_rows = {located.row for located in own_held_out}
    return [located for located in rows if located.row not in held_out_rows], list(own_held_out)


def is_held_out(row: Row | Comparison, fraction: float) -> bool:
    """Return whether a row is held out for evaluation.

    This depends only on the row's own text, so added rows never move another row, and equal rows stay together.
    """
    digest = sha256_of_parts(row.parts)
    return int(digest[:16], 16) / 2**64 < fraction
