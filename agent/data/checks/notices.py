"""What is said about an owner's data: errors and notices, each once, with the places where it occurs.

A notice says what of usable data is not read or not learnt. Both have a private part, which may quote names from the
data, such as those of columns, and never leaves this machine.
"""

import re
from dataclasses import dataclass, field

from agent.data.checks.report import MAX_ERRORS, MAX_PLACES, Problem
from agent.data.local_names import public

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Note:
    """One notice on one record.

    message: continues the record's place: " has a key in a message that is not read". private: the rest, such as
    ": 'mood'".
    """

    message: str
    private: str = ""


@dataclass
class _Occurrence:
    """The text at the first place, the first places, and the number of all places."""

    label: str
    message: str
    private: str
    places: list[str] = field(default_factory=list)
    count: int = 0


class Occurrences:
    """Collects errors, or notices. Those of one file that differ only in numbers are one, at several places."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], _Occurrence] = {}

    def add(self, label: str, place: str, message: str, private: str = "", *, apart: bool = False) -> None:
        """Add one occurrence.

        Args:
            label: the name of the file or data set.
            place: where it is, such as "line 3"; empty if it concerns the whole file.
            message: continues the place.
            private: the rest of the message.
            apart: whether occurrences with another private part are others.
        """
        key = (label, _NUMBER.sub("#", message), private if apart else "")
        occurrence = self._known.setdefault(key, _Occurrence(label, message, private))
        occurrence.count += 1
        if len(occurrence.places) < MAX_PLACES:
            occurrence.places.append(place)

    @property
    def total(self) -> int:
        """The number of occurrences."""
        return sum(occurrence.count for occurrence in self._known.values())

    @property
    def problems(self) -> list[Problem]:
        """The first MAX_ERRORS, each with its places and its private part."""
        return [
            Problem(label=each.label, message=each.message + each.private, places=each.places, count=each.count)
            for each in list(self._known.values())[:MAX_ERRORS]
        ]

    @property
    def public(self) -> list[str]:
        """What may leave this machine: each message once, with its first place and its count.

        Private parts are left out, and what is public of a name stands for it.
        """
        merged: dict[tuple[str, str], _Occurrence] = {}
        for (label, message, _), each in self._known.items():
            places = [public(place) for place in each.places[:1]]
            first = merged.setdefault((public(label), message), _Occurrence(public(label), each.message, "", places))
            first.count += each.count
        return [
            f"{each.label}: {each.places[0]}{each.message}{f', and {n:,} more' if (n := each.count - 1) else ''}"
            for each in merged.values()
        ]
