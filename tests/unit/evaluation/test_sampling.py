"""The draw for ``--limit``."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from fedloom.evaluation.data.sampling import draw
from fedloom.evaluation.tasks.base import BadData, Item


def sorted_items(**sizes: int) -> list[Item]:
    """Items as files have them: all of one answer, then all of the next."""
    return [Item(f"{group}{n}", group, {}) for group, size in sizes.items() for n in range(size)]


def test_trap_the_first_n_of_a_sorted_file_are_of_one_group() -> None:
    items = sorted_items(yes=276, no=169, maybe=55)
    assert Counter(item.group for item in items[:100]) == {"yes": 100}
    found = Counter(item.group for item in draw(items, 100, seed=0))
    for group, size in {"yes": 276, "no": 169, "maybe": 55}.items():
        assert abs(found[group] - size / 5) < 1
    assert found.total() == 100


def test_trap_a_sorted_file_without_groups_is_drawn_from_everywhere() -> None:
    items = [Item(str(n), "", {"label": "negative" if n < 500 else "positive"}) for n in range(1000)]
    labels = Counter(item.content["label"] for item in draw(items, 200, seed=0))
    assert 60 < labels["negative"] < 140


def test_a_draw_is_the_same_by_seed_whatever_the_order() -> None:
    items = sorted_items(a=50, b=30, c=7)
    shuffled = random.Random(1).sample(items, len(items))
    first = draw(items, 20, seed=3)
    assert {item.id for item in draw(shuffled, 20, seed=3)} == {item.id for item in first}
    assert [item.id for item in draw(items, 20, seed=4)] != [item.id for item in first]
    assert first == sorted(first, key=items.index)


def test_a_draw_stays_the_same_between_releases() -> None:
    """Replies of earlier runs are used again, and numbers of two releases are of the same items."""
    found = draw(sorted_items(a=6, b=4), 4, seed=0)
    assert [item.id for item in found] == ["a1", "a3", "b2", "b3"]


def test_a_larger_limit_draws_the_same_items_and_more() -> None:
    items = sorted_items(a=50, b=30, c=7)
    names = [{item.id for item in draw(items, limit, seed=0)} for limit in range(1, len(items) + 1)]
    assert all(small < large for small, large in pairwise(names))


def test_every_item_is_as_likely_as_any_other() -> None:
    items = sorted_items(a=12, b=5, c=3)
    counts = Counter(item.id for seed in range(3000) for item in draw(items, 5, seed))
    # 3,000 draws of 1 in 4: 750, with a standard deviation of at most 24
    assert all(630 < counts[item.id] < 870 for item in items)


def test_without_a_limit_or_with_a_large_one_all_items_are_drawn() -> None:
    items = sorted_items(a=3)
    assert draw(items, None, 0) == draw(items, 3, 0) == draw(items, 9, 0) == items


def test_a_limit_below_one_and_an_id_that_occurs_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="a limit of 0 items draws none"):
        draw(sorted_items(a=3), 0, 0)
    with pytest.raises(BadData, match="two items have one id"):
        draw([Item("1", "", {}), Item("1", "", {})], 1, 0)
