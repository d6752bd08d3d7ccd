"""What happened to a reply, in the words that all tasks count by."""

from fedloom.evaluation.asking.requests import Text

CUT, EMPTY, UNFINISHED = "cut", "empty", "unfinished"


def flags_of(reply: Text) -> frozenset[str]:
    """Whether the prompt was cut, and whether the reply has no text or ends at its longest length."""
    flags = {CUT: reply.n_cut > 0, EMPTY: not reply.text.strip(), UNFINISHED: not reply.is_complete}
    return frozenset(flag for flag, is_set in flags.items() if is_set)
