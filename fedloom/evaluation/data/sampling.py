"""The draw for ``--limit``: N items of a task, spread over its groups, the same for every model.

Files are sorted by answer or subject, so the first N would say nothing of the rest. The draw depends on the seed and
the items' ids alone: not on their order, on the model, or on a library's random generator. A larger limit draws the
same items and more, so replies that are stored are used again.
"""

from collections import defaultdict
from collections.abc import Sequence

from fedloom.evaluation.tasks.base import BadData, Item
from shared.digest import sha256_of_parts


def draw(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """Draw *limit* items in proportion to the groups, and return them in the order of the file.

    Args:
        items: of one task.
        limit: how many; None, or more than there are, for all.
        seed: of the draw.

    Raises:
        ValueError: the limit is below 1.
        BadData: two items have one id.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"a limit of {limit} items draws none")
    if len({item.id for item in items}) < len(items):
        raise BadData("two items have one id")
    if limit is None or limit >= len(items):
        return list(items)
    groups: defaultdict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.group].append(item)
    keys: dict[str, tuple[float, float]] = {}
    for group, members in groups.items():
        start = _uniform(seed, "group", group)
        shuffled = sorted(members, key=lambda item: (_uniform(seed, "item", item.id), item.id))
        for place, item in enumerate(shuffled):
            # one item of each 1/len(members): up to any limit, groups differ from their share by less than one item
            keys[item.id] = ((place + start) / len(members), _uniform(seed, "tie", item.id))
    chosen = set(sorted(keys, key=lambda name: (keys[name], name))[:limit])
    return [item for item in items if item.id in chosen]


def _uniform(seed: int, *parts: str) -> float:
    """A number in [0, 1) that depends on the seed and the parts."""
    return int(sha256_of_parts([str(seed), *parts])[:13], 16) / 16**13
