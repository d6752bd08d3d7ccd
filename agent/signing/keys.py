"""The coordinator's signing key, pinned at enrolment. An agent follows to later keys by their signatures alone."""

from collections.abc import Sequence

from agent.record.statements import StatementRecord
from shared.signing.keys import PublicKey, is_signed
from shared.wire.statements import KeySuccession, SigningKeys, succession_text


class PinnedKey:
    """The key that this agent believes.

    Args:
        record: has the key of the enrolment, and those that followed.
    """

    def __init__(self, record: StatementRecord) -> None:
        self._record = record
        self._current: PublicKey | None = None

    @property
    def current(self) -> PublicKey:
        """The newest key that this agent was led to."""
        if self._current is None:
            followed = self._record.later_keys()
            self._current = followed[-1][0] if followed else self._record.pinned
        return self._current

    def follow(self, keys: SigningKeys) -> None:
        """Follow signed successions to the coordinator's key, if they lead there."""
        path = path_to(self.current, keys.current, keys.successions)
        if path:
            self._record.follow(path)
            self._current = path[-1]


def path_to(start: PublicKey, end: PublicKey, successions: Sequence[KeySuccession]) -> list[PublicKey]:
    """The keys from one key to a later one, each signed by the one before; empty if none lead there."""
    path: list[PublicKey] = []
    at = start
    for each in successions:
        if each.old == at and is_signed(succession_text(each.new), each.signature, each.old):
            at = each.new
            path.append(at)
    return path if at == end else []
