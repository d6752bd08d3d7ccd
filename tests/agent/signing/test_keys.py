"""From the key of the enrolment to later ones: by signatures alone."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.record.record import OwnerRecord
from agent.signing.keys import PinnedKey, path_to
from shared.signing.keys import SigningKey
from shared.wire.statements import KeySuccession, SigningKeys, succession_text

A, B, C, D = (SigningKey.generate() for _ in range(4))


def succession(old: SigningKey, new: SigningKey, by: SigningKey | None = None) -> KeySuccession:
    return KeySuccession(old=old.public, new=new.public, signature=(by or old).sign(succession_text(new.public)))


def paths(*keys: SigningKey) -> list[str]:
    return [key.public for key in keys]


WHOLE = [succession(A, B), succession(B, C)]


@pytest.mark.parametrize(
    ("start", "end", "successions", "path"),
    [
        (A, C, WHOLE, [B, C]),
        (B, C, WHOLE, [C]),
        (A, C, [succession(D, A), *WHOLE], [B, C]),
        (A, C, WHOLE[1:], []),
        (A, C, list(reversed(WHOLE)), []),
        (A, B, [succession(A, B, by=D)], []),
        (A, C, [WHOLE[0], succession(B, C, by=D)], []),
        (A, D, WHOLE, []),
        (C, A, WHOLE, []),
        (A, D, [succession(D, A)], []),
        (A, A, WHOLE, []),
    ],
)
def test_a_later_key_is_reached_by_signatures_of_those_before(
    start: SigningKey, end: SigningKey, successions: Sequence[KeySuccession], path: list[SigningKey]
) -> None:
    assert path_to(start.public, end.public, successions) == paths(*path)


def test_the_keys_that_followed_are_remembered(tmp_path: Path) -> None:
    record = OwnerRecord(tmp_path)
    record.create()
    key = PinnedKey(record.statements(A.public))
    key.follow(SigningKeys(current=D.public, successions=WHOLE))
    assert key.current == A.public
    key.follow(SigningKeys(current=C.public, successions=WHOLE))
    assert key.current == C.public
    again = PinnedKey(record.statements(A.public))
    assert again.current == C.public
    assert [each for each, _ in record.statements(A.public).later_keys()] == paths(B, C)
    again.follow(SigningKeys(current=B.public, successions=WHOLE))
    assert again.current == C.public, "no way leads back"
    assert PinnedKey(record.statements(D.public)).current == D.public, "another enrolment begins with its own key"
