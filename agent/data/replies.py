"""Which replies of a conversation the loss covers, whatever the template."""

from collections.abc import Sequence

from agent.data.rows import Row, Turn


def is_supervised(row: Row, turns: Sequence[Turn], number: int) -> bool:
    """Whether the loss covers a reply: the completion, or an earlier reply with text that follows a user turn."""
    return number == len(turns) - 1 or (_may_be_supervised(row, turns[number]) and _is_prompted(turns, number))


def n_unprompted(row: Row, turns: Sequence[Turn]) -> int:
    """The number of replies that the loss could cover, but for the user turn that does not precede them."""
    return sum(
        turn.role == "assistant" and _may_be_supervised(row, turn) and not _is_prompted(turns, number)
        for number, turn in enumerate(turns[:-1])
    )


def _may_be_supervised(row: Row, turn: Turn) -> bool:
    return not row.only_last and turn.supervised and turn.text.strip() != ""


def _is_prompted(turns: Sequence[Turn], number: int) -> bool:
    return any(turn.role == "user" for turn in turns[:number])
