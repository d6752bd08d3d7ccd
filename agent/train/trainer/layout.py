"""Where the tokens of a batch stand in the one row that the backbone takes: the rows end to end, or as a tree.

Rows of one data set often begin alike: with a system prompt, with an instruction, and the two completions of a pair
with all of its prompt. What a causal model computes of such a beginning depends on nothing after it. In a tree it
stands once, and what follows in each row comes behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

SHORTEST = 16
"""Tokens of the shortest beginning that is worth a segment of its own: each costs a call of the attention."""
_WORTH = 1 / 16
"""Of a batch's tokens: with less to save, rows stand end to end, where the attention needs no mask."""


@dataclass(frozen=True)
class Segment:
    """Tokens that stand together, of one row or of several that share them.

    begin, end: their places. position: of the first one in its rows. before: the numbers of the segments that these
    rows begin with, in order.
    """

    begin: int
    end: int
    position: int
    before: tuple[int, ...] = ()


@dataclass(frozen=True)
class Layout:
    """A batch as one row of S places.

    Attributes:
        segments: in the order of their places.
        places: of each row's tokens, (batch, tokens) int64; 0 for padding.
        longest: tokens of the longest row.
    """

    segments: tuple[Segment, ...]
    places: Tensor
    longest: int
    _masks: dict[tuple[int, torch.dtype], Tensor] = field(default_factory=dict, repr=False)

    @property
    def sizes(self) -> list[int]:
        """The number of tokens of each segment."""
        return [each.end - each.begin for each in self.segments]

    @property
    def is_tree(self) -> bool:
        """Whether rows share tokens."""
        return any(each.before for each in self.segments)

    def positions(self) -> Tensor:
        """The position of each place in its rows, (1, S) int64."""
        runs = [torch.arange(each.position, each.position + each.end - each.begin) for each in self.segments]
        return torch.cat(runs).unsqueeze(0).to(self.places.device)

    def join(self, values: Tensor, attention_mask: Tensor) -> Tensor:
        """Values by token, (batch, tokens), as values by place, (1, S). Rows that share a token have the same there."""
        real = attention_mask.bool()
        joined = values.new_empty(self.segments[-1].end)
        joined[self.places[real]] = values[real]
        return joined.unsqueeze(0)

    def mask(self, number: int, like: Tensor) -> Tensor:
        """What the tokens of a segment see of the segments before it and of itself, (1, 1, own, all): 0 or −∞.

        like: a tensor of the dtype and the device.
        """
        key = (number, like.dtype)
        if key not in self._masks:
            segment = self.segments[number]
            n_own = segment.end - segment.begin
            hidden = torch.full((n_own, segment.position + n_own), -torch.inf, dtype=like.dtype, device=like.device)
            self._masks[key] = hidden.triu(diagonal=segment.position + 1)[None, None]
        return self._masks[key]


def lay_out(input_ids: Tensor, attention_mask: Tensor, *, shares: bool) -> Layout:
    """Lay out the rows of a batch.

    Args:
        input_ids: (batch, tokens) int64.
        attention_mask: (batch, tokens), 1 at the first tokens of each row, which are padded on the right.
        shares: whether tokens that several rows begin with stand once.
    """
    lengths = attention_mask.sum(dim=1).tolist()
    segments: list[Segment] = []
    if shares:
        rows = [ids[:length] for ids, length in zip(input_ids.tolist(), lengths, strict=True)]
        segments, of_rows = _tree(rows)
    n_tokens = sum(lengths)
    if not segments or n_tokens - segments[-1].end < _WORTH * n_tokens:
        ends = torch.tensor(lengths).cumsum(0).tolist()
        segments = [Segment(end - length, end, 0) for end, length in zip(ends, lengths, strict=True)]
        of_rows = [list(range(each.begin, each.end)) for each in segments]
    places = torch.zeros(input_ids.shape, dtype=torch.long)
    for number, of_row in enumerate(of_rows):
        places[number, : len(of_row)] = torch.tensor(of_row)
    return Layout(tuple(segments), places.to(input_ids.device), max(lengths))


def _tree(rows: Sequence[Sequence[int]]) -> tuple[list[Segment], list[list[int]]]:
    """The segments of a tree of rows, and the places of each row's tokens."""
    segments: list[Segment] = []
    places: list[list[int]] = [[] for _ in rows]

    def grow(group: Sequence[int], position: int, before: tuple[int, ...]) -> None:
        """Lay out the tokens from *position* on of a sorted *group* of rows that have all before it in common."""
        first = rows[group[0]]
        common = _n_common(first, rows[group[-1]])
        is_shared = len(group) == 1 or common - position >= SHORTEST
        if is_shared and common > position:
            begin = segments[-1].end if segments else 0
            segments.append(Segment(begin, begin + common - position, position, before))
            for row in group:
                places[row] += range(begin, begin + common - position)
            before = (*before, len(segments) - 1)
        for goes_on, members in groupby(group, lambda row: rows[row][common : common + 1]):
            if goes_on:
                grow(list(members), common if is_shared else position, before)
            elif not is_shared:  # these rows end here, and what they have in common is too short
                for row in members:
                    grow([row], position, before)

    grow(sorted(range(len(rows)), key=lambda row: list(rows[row])), 0, ())
    return segments, places


def _n_common(one: Sequence[int], other: Sequence[int]) -> int:
    """The number of tokens with which both rows begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
