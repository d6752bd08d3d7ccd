"""What the statements of a campaign say together, and which statement may follow."""

from collections.abc import Iterable
from typing import Self

from pydantic import ValidationError

from shared.signing.statements import (
    FIRST,
    AdapterSigned,
    HistorySigned,
    RosterSigned,
    SpecificationSigned,
    Statement,
    digest_of,
    statement_of,
)

_ROSTERS = 8
"""Rounds whose rosters are at hand: late updates are of the round before the newest."""
MAX_CHARS = 200_000_000
"""Most characters of a campaign's statements together: a coordinator without end must not fill this disk."""


class Contradicted(Exception):
    """A statement does not follow from those before it. Its text says why."""


class Standing:
    """The statements of one campaign up to now.

    Args:
        campaign_id: the campaign.

    Attributes:
        text: of the newest statement; empty before the first.
        number: of the newest statement; -1 before the first.
        sha256: its digest.
        history: number of the campaign's history.
        spec_sha256: digest of the specification; None before the first statement.
        adapters: of this history, by number.
        newest_adapter: number of the newest of them; -1 before adapter 0.
        rosters: of the latest rounds, by round.
    """

    def __init__(self, campaign_id: str) -> None:
        self.campaign_id = campaign_id
        self.text = ""
        self.number = -1
        self.sha256 = FIRST
        self.history = 0
        self.spec_sha256: str | None = None
        self.adapters: dict[int, AdapterSigned] = {}
        self.newest_adapter = -1
        self.rosters: dict[int, RosterSigned] = {}
        self._n_chars = 0

    @classmethod
    def of(cls, campaign_id: str, texts: Iterable[str]) -> Self:
        """What statements say that were checked before."""
        standing = cls(campaign_id)
        for text in texts:
            standing.add(text)
        return standing

    def add(self, text: str) -> Statement:
        """Take the next statement in. Raises Contradicted; then nothing has changed."""
        try:
            statement = statement_of(text)
        except ValidationError as error:
            raise Contradicted("it cannot be read; agent and coordinator may be of different versions") from error
        if self._n_chars + len(text) > MAX_CHARS:
            raise Contradicted("the statements of this campaign are longer than any campaign needs")
        self._check_place(statement)
        match statement:
            case SpecificationSigned():
                self.spec_sha256 = statement.spec_sha256
                self.history = statement.history
            case AdapterSigned():
                self._check_adapter(statement)
                self.adapters[statement.adapter] = statement
                self.newest_adapter = statement.adapter
            case RosterSigned():
                self._check_roster(statement)
                self.rosters[statement.round] = statement
                self.rosters.pop(statement.round - _ROSTERS, None)
            case HistorySigned():
                self._begin_history(statement)
        self.text, self.number, self.sha256 = text, statement.number, digest_of(text)
        self._n_chars += len(text)
        return statement

    def _check_place(self, statement: Statement) -> None:
        if statement.campaign_id != self.campaign_id:
            raise Contradicted(f"it is about another campaign, {statement.campaign_id}")
        if statement.number != self.number + 1:
            raise Contradicted(f"it is number {statement.number}, and {self.number + 1} is the next")
        if statement.previous != self.sha256:
            raise Contradicted("it does not name the statement before it")
        if (statement.number == 0) != isinstance(statement, SpecificationSigned):
            raise Contradicted("the first statement of a campaign, and no other, is its specification")
        if statement.number > 0 and not isinstance(statement, HistorySigned) and statement.history != self.history:
            raise Contradicted(f"it is of history {statement.history}, and {self.history} is the campaign's")

    def _check_adapter(self, statement: AdapterSigned) -> None:
        if (known := self.adapters.get(statement.adapter)) is not None:
            raise Contradicted(f"adapter {known.adapter} was signed before, with the digest {known.sha256[:12]}…")
        if statement.adapter != self.newest_adapter + 1:
            raise Contradicted(f"adapter {statement.adapter} comes after adapter {self.newest_adapter}")
        if statement.adapter > 0 and statement.adapter not in self.rosters:
            raise Contradicted(f"adapter {statement.adapter} comes without a roster of its round")

    def _check_roster(self, statement: RosterSigned) -> None:
        if statement.round != self.newest_adapter + 1:
            raise Contradicted(f"a roster of round {statement.round} comes after adapter {self.newest_adapter}")
        before = self.rosters.get(statement.round)
        if before is not None and not set(before.agents) <= set(statement.agents):
            missing = min(set(before.agents) - set(statement.agents))
            raise Contradicted(f"{missing} is no longer in the roster of round {statement.round}")

    def _begin_history(self, statement: HistorySigned) -> None:
        if statement.history <= self.history:
            raise Contradicted(f"history {statement.history} comes after {self.history}")
        last = -1 if statement.adapter is None else statement.adapter
        if last > self.newest_adapter or (last < 0) != (not self.adapters):
            raise Contradicted(f"it begins with adapter {last}, and {self.newest_adapter} is the newest")
        self.history = statement.history
        self.adapters = {number: adapter for number, adapter in self.adapters.items() if number <= last}
        self.rosters = {number: roster for number, roster in self.rosters.items() if number <= last}
        self.newest_adapter = last
