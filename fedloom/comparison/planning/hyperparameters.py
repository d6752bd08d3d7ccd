"""One choice of hyperparameters."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from shared.digest import sha256_hex

_LONGEST = 120
_NO_FILE_NAME = re.compile(r"[^\w.+-]", re.ASCII)


@dataclass(frozen=True)
class Hyperparameters:
    """What one trial is trained with.

    Args:
        learning_rate: The clients'.
        params: Parameters of the algorithm.
        fields: Other fields of the campaign, by name with section; values as JSON, so that any of them can be a key.
    """

    learning_rate: float
    params: tuple[tuple[str, float], ...] = ()
    fields: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """In the words of tables: sections are named only where two fields would have one name."""
        last = {name: name.rpartition(".")[2] for name, _ in self.fields}
        counts = Counter([*last.values(), *(name for name, _ in self.params)])
        fields = ((last[name] if counts[last[name]] == 1 else name, text) for name, text in self.fields)
        return ", ".join(f"{name} {value}" for name, value in (*self._numbers(), *fields))

    @property
    def values(self) -> dict[str, Any]:
        """The values of ``fields``."""
        return {name: json.loads(text) for name, text in self.fields}

    @property
    def folder_name(self) -> str:
        """The values as a part of a trial's folder name."""
        name = "-".join(f"{name}{value}" for name, value in (*self._numbers(), *self.fields)).replace('"', "")
        if len(name) <= _LONGEST and not _NO_FILE_NAME.search(name):
            return name
        digest = sha256_hex(json.dumps([self.params, self.fields]).encode())
        return f"lr{in_short(self.learning_rate)}-{digest[:16]}"

    def without(self, same: dict[str, Any]) -> Self:
        """The choice without the fields that have these values, by name."""
        values = self.values
        fields = tuple((name, text) for name, text in self.fields if name not in same or values[name] != same[name])
        return type(self)(self.learning_rate, self.params, fields)

    def _numbers(self) -> Iterator[tuple[str, str]]:
        for name, value in (("lr", self.learning_rate), *self.params):
            yield name, in_short(value)


def in_short(value: float) -> str:
    """A number in as few digits as tell it from every other one."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
