"""The layout of a batch: each row's tokens are found again, in its order, and what rows begin with stands once."""

import random

import pytest

torch = pytest.importorskip("torch")

from agent.train.trainer.layout import SHORTEST, Layout, lay_out  # noqa: E402
from agent.train.trainer.loss import collate  # noqa: E402

pytestmark = pytest.mark.train


def laid_out(rows: list[list[int]], *, shares: bool) -> Layout:
    batch = collate([{"input_ids": row, "labels": row} for row in rows])
    return lay_out(batch["input_ids"], batch["attention_mask"], shares=shares)


def check(rows: list[list[int]], layout: Layout) -> None:
    """Each row is a path: its segments in order, whose tokens and positions are the row's."""
    batch = collate([{"input_ids": row, "labels": row} for row in rows])
    tokens = layout.join(batch["input_ids"], batch["attention_mask"])[0].tolist()
    positions = layout.positions()[0].tolist()
    assert len(tokens) == len(positions) == sum(layout.sizes)
    assert layout.longest == max(map(len, rows))
    for number, row in enumerate(rows):
        places = layout.places[number, : len(row)].tolist()
        assert [tokens[place] for place in places] == row
        assert [positions[place] for place in places] == list(range(len(row)))
        last = next(each for each in layout.segments if each.begin <= places[-1] < each.end)
        path = [place for n in last.before for place in range(layout.segments[n].begin, layout.segments[n].end)]
        assert [*path, *range(last.begin, places[-1] + 1)] == places
    for place, segment in enumerate(layout.segments):
        assert segment.begin == (layout.segments[place - 1].end if place else 0)
        assert segment.end > segment.begin
        assert segment.position == sum(layout.sizes[n] for n in segment.before)


@pytest.mark.parametrize("seed", range(30))
def test_random_trees(seed: int) -> None:
    draw = random.Random(seed)
    rows = [[draw.randrange(3) for _ in range(draw.randrange(1, 60))] for _ in range(3)]
    for _ in range(draw.randrange(8)):
        row = draw.choice(rows)
        rows.append(row[: draw.randrange(1, len(row) + 1)] + [draw.randrange(3) for _ in range(draw.randrange(40))])
    draw.shuffle(rows)
    check(rows, laid_out(rows, shares=False))
    tree = laid_out(rows, shares=True)
    check(rows, tree)
    assert sum(tree.sizes) <= sum(map(len, rows))


BEGINNING = list(range(100, 100 + SHORTEST))


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [
        ([[*BEGINNING, 1], [*BEGINNING, 2, 3]], [SHORTEST, 1, 2]),
        ([[*BEGINNING[1:], 1], [*BEGINNING[1:], 2, 3]], [SHORTEST, SHORTEST + 1]),  # too short to be worth it
        ([[*BEGINNING, 1], BEGINNING], [SHORTEST, 1]),  # one row is the other's beginning
        ([BEGINNING, BEGINNING, BEGINNING], [SHORTEST]),
        ([[7], [7], [7, 8]], [1, 1, 2]),
        ([[*BEGINNING, *BEGINNING, 1], [*BEGINNING, *BEGINNING, 2], [*BEGINNING, 3]], [SHORTEST, SHORTEST, 1, 1, 1]),
        ([[1]], [1]),
    ],
    ids=["two", "short", "beginning", "equal", "tiny", "of two levels", "alone"],
)
def test_what_stands_once(rows: list[list[int]], sizes: list[int]) -> None:
    layout = laid_out(rows, shares=True)
    check(rows, layout)
    assert sorted(layout.sizes) == sorted(sizes)
