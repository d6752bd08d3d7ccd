"""Small helpers for messages."""

from collections.abc import Iterable


def repeated(names: Iterable[str]) -> str | None:
    """Return the first of *names* that occurs again; None if all differ."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
