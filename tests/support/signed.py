"""A chain of signed statements for coordinators of the tests' own, whatever tasks they hand out."""

from collections.abc import Iterable
from typing import Any

from shared.digest import sha256_hex
from shared.signing.keys import SigningKey
from shared.signing.statements import (
    FIRST,
    AdapterSigned,
    HistorySigned,
    RosterSigned,
    SpecificationSigned,
    Statement,
    digest_of,
    text_of,
)
from shared.wire.statements import SignedStatement
from shared.wire.tasks.assignments import Assignment, BenchmarkAssignment, EvaluateAssignment, TrainAssignment

MOST_ROUNDS = 50
"""Adapters beyond it are not signed, whatever a task names."""


class SignedChain:
    """The statements of one campaign, signed.

    Args:
        key: by which they are signed.
        campaign_id: the campaign.
        agents: names in the rosters.
    """

    def __init__(self, key: SigningKey, campaign_id: str, agents: Iterable[str] = ("ada",)) -> None:
        self.key = key
        self.campaign_id = campaign_id
        self.agents = list(agents)
        self.texts: list[str] = []
        self.history = 0
        self.adapters: dict[int, str] = {}
        self.rosters: dict[int, list[str]] = {}
        self.is_final = False

    def add(self, kind: type[Statement], **facts: Any) -> None:
        """Add any statement, also one that no honest coordinator signs."""
        number = len(self.texts)
        previous = digest_of(self.texts[-1]) if self.texts else FIRST
        place = {"campaign_id": self.campaign_id, "number": number, "previous": previous, "history": self.history}
        self.texts.append(text_of(kind(**{**place, **facts})))

    def say_specification(self, spec_sha256: str) -> None:
        self.add(SpecificationSigned, spec_sha256=spec_sha256)

    def say_adapter(self, number: int, sha256: str, broadcast: str | None = None) -> None:
        self.adapters[number] = sha256
        self.add(AdapterSigned, adapter=number, sha256=sha256, broadcast=broadcast)

    def say_roster(self, number: int, agents: Iterable[str]) -> None:
        self.rosters[number] = sorted(agents)
        self.add(RosterSigned, round=number, agents=self.rosters[number])

    def say_history(self, history: int, adapter: int | None) -> None:
        self.history = history
        last = -1 if adapter is None else adapter
        self.adapters = {number: sha256 for number, sha256 in self.adapters.items() if number <= last}
        self.rosters = {number: names for number, names in self.rosters.items() if number <= last}
        self.add(HistorySigned, adapter=adapter)

    def say_what_it_takes(self, task: Assignment) -> None:
        """Sign all that a task names, as far as nothing else was signed before, and unless a test has said all."""
        if self.is_final:
            return
        if not self.texts:
            self.history = getattr(task, "history", 0)
            self.say_specification(task.spec_sha256)
        if not isinstance(task, TrainAssignment | EvaluateAssignment | BenchmarkAssignment):
            return
        number = task.round - 1 if isinstance(task, TrainAssignment) else task.round
        broadcast = task.broadcast.sha256 if isinstance(task, TrainAssignment) and task.broadcast else None
        if task.history > self.history:
            newest = max(self.adapters, default=-1)
            stays = min(newest, number if self.adapters.get(number) == task.adapter.sha256 else number - 1)
            self.say_history(task.history, stays if stays >= 0 and self.adapters else None if not self.adapters else 0)
        reference = task.reference if not isinstance(task, BenchmarkAssignment) else None
        if reference is not None and 0 not in self.adapters:
            self.say_adapter(0, reference.sha256)
        self._adapters_up_to(number, task.adapter.sha256, broadcast)
        if isinstance(task, TrainAssignment):
            wanted = max(task.n_in_round, len(self.agents))
            names = [*self.agents, *(f"other-{each}" for each in range(wanted - len(self.agents)))]
            if max(self.adapters, default=-1) == number and set(names) - set(self.rosters.get(task.round, ())):
                self.say_roster(task.round, {*names, *self.rosters.get(task.round, ())})

    def _adapters_up_to(self, number: int, sha256: str, broadcast: str | None) -> None:
        if number > MOST_ROUNDS:
            return
        for each in range(max(self.adapters, default=-1) + 1, number + 1):
            if each and each not in self.rosters:
                self.say_roster(each, self.agents)
            own = (sha256, broadcast) if each == number else (sha256_hex(f"adapter {each}".encode()), None)
            self.say_adapter(each, *own)

    def signed(self, since: int = 0) -> list[SignedStatement]:
        """The statements from a number on."""
        return [
            SignedStatement(text=text, key=self.key.public, signature=self.key.sign(text))
            for text in self.texts[since:]
        ]
