"""Rows end where their text says, wherever a part of decoding ends. The tokens are written down, and not a model's."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from agent.train.local.answers import pad_left
from agent.train.local.generation import decoding
from agent.train.local.generation.stops import Stops, before_stop
from tests.train.local.small_models import END, FAMILIES, PAD, VOCABULARY, made

pytestmark = pytest.mark.train

PIECES = [
    b"",
    b"",
    b"a",
    b"b",
    b" ",
    b"\n",
    b"\n\n\n\n",
    b"Q",
    b"Qu",
    b"u",
    b"\xc3",
    b"\xa9",
    b"\xe5\xa5",
    b"\xbd",
    b":",
]
"""The bytes of each token."""
N_FILLER = 30


class Bytes:
    """A tokenizer whose tokens may hold parts of a character. It takes the longest piece."""

    def encode(self, text: str, **_: Any) -> list[int]:
        left, tokens = text.encode(), []
        while left:
            token = max(range(2, len(PIECES)), key=lambda i: left.startswith(PIECES[i]) * len(PIECES[i]))
            tokens.append(token)
            left = left[len(PIECES[token]) :]
        return tokens

    def decode(self, tokens: Any, **_: Any) -> str:
        return b"".join(PIECES[int(token)] for token in tokens).decode(errors="replace")


class Scripted:
    """Makes each row's next token the one that is written down."""

    def __init__(self, rows: Sequence[Sequence[int]], n_before: int) -> None:
        self._rows, self._n_before = list(rows), n_before

    def keep(self, places: Sequence[int]) -> None:
        self._rows = [self._rows[place] for place in places]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        n = input_ids.shape[1] - self._n_before
        chosen = torch.tensor([row[n] if n < len(row) else 2 for row in self._rows])
        return torch.full_like(scores, -1e9).scatter(1, chosen[:, None], 0.0)


def ended(rows: Sequence[Sequence[int]], stop: tuple[str, ...], limits: Sequence[int]) -> list[list[int]]:
    """Each row up to its stop, end or limit, of which the token is the last one."""
    inputs = pad_left([[2] * (1 + row % 3) for row in range(len(rows))], PAD)
    n_before = inputs["input_ids"].shape[1]
    stops = Stops(Bytes(), stop, n_before, limits)
    script: Any = Scripted(rows, n_before)
    with torch.inference_mode():
        found = decoding.decode(made(FAMILIES["llama"]()), inputs, stops, script, {END})
    cut = [list(row[:after]) for row, after in zip(found, stops.stopped_after, strict=True)]
    return [row[: row.index(END) + 1] if END in row else row for row in cut]


def spelled(*pieces: bytes) -> list[int]:
    return [PIECES.index(piece, 2) for piece in pieces]


@pytest.mark.parametrize("part", range(1, 9))
@pytest.mark.parametrize(
    ("stop", "tail"),
    [
        (("Q:",), [b"Q", b":"]),
        (("\n\nQ",), [b"\n", b"\n", b"Qu"]),  # the last token holds more than the stop string
        (("\n\n",), [b"a", b"\n\n\n\n"]),
        (("\n\n\n\n",), [b"\n"] * 4),  # one token for the tokenizer, and four as the model spells it
        (("é",), [b"\xc3", b"\xa9"]),
        (("好",), [b"\xe5\xa5", b"\xbd"]),
        (("b好é", ":"), [b"b", b"\xe5\xa5", b"\xbd", b"\xc3", b"\xa9"]),
    ],
)
def test_a_stop_string_is_found_across_parts(
    stop: tuple[str, ...], tail: list[bytes], part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PART", part)
    filler = spelled(*[b"a", b"b"] * (N_FILLER // 2))
    # the tail begins at another place of a part in each row
    expected = [filler[:n] + spelled(*tail) for n in range(7)]
    rows = [[*row, *filler] for row in expected]
    assert ended(rows, stop, [N_FILLER] * 7) == expected
    texts = [before_stop(Bytes().decode(row), stop) for row in expected]
    assert not any(each in text for text in texts for each in stop)


@pytest.mark.parametrize("part", range(1, 9))
def test_characters_are_whole_wherever_a_part_ends(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PART", part)
    character = spelled(b"\xe5\xa5", b"\xbd")
    rows = [spelled(*[b"a"] * n) + character * 3 + [END] for n in range(5)]
    found = ended(rows, ("é", "Q"), [N_FILLER] * 5)
    assert found == rows
    assert [Bytes().decode(row) for row in found] == ["a" * n + "好好好" for n in range(5)]


@pytest.mark.parametrize("part", [1, 2, 3, 4, 32])
def test_all_rows_may_end_in_one_part(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PART", part)
    by_stop, by_end, by_limit = spelled(b"a", b"b", b"Q"), [*spelled(b"a", b"b"), END], spelled(b"a", b"a", b"a")
    rows = [by_stop + [2] * 9, by_end + [2] * 9, by_limit + [2] * 9]
    assert ended(rows, ("Q",), [9, 9, 3]) == [by_stop, by_end, by_limit]


@pytest.mark.parametrize("part", [1, 3, 32])
def test_a_limit_of_one_token(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PART", part)
    rows = [spelled(b"Q", b"a", b"a"), [END, 2, 2], spelled(b"a", b"Q", b"a"), spelled(b"a", b"a", b"Q", b"a")]
    assert ended(rows, ("Q",), [1] * 4) == [row[:1] for row in rows]
    assert ended(rows, ("Q",), [1, 1, 1, 4]) == [rows[0][:1], rows[1][:1], rows[2][:1], rows[3][:3]]
    assert ended(rows[:1], ("Q",), [1]) == [rows[0][:1]]


@pytest.mark.parametrize("part", [1, 3, 5, 32])
def test_what_follows_the_limit_of_a_row_is_not_read(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PART", part)
    row = spelled(b"a", b"b", b"Q", b":", b"a")
    limits = [1, 2, 3, 4, 9]
    assert ended([[*row, END]] * 5, ("Q:",), limits) == [row[:1], row[:2], row[:3], row[:4], row[:4]]


def test_the_tokens_of_this_test_are_the_models() -> None:
    assert len(PIECES) <= VOCABULARY
    assert Bytes().encode("a\n\n\n\nQ:") == spelled(b"a", b"\n\n\n\n", b"Q", b":")
