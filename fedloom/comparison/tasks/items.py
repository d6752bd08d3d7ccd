"""Which items are for choosing, and which for the table: never the same ones.

Half of the items of each task that hyperparameters are chosen by is for choosing, spread over its groups. Which ones
depends on the seed and the items alone: another limit moves no item from one half to the other.
"""

import json
from collections.abc import Sequence

from fedloom.evaluation.data.sampling import draw
from fedloom.evaluation.tasks.base import BadData, Item


class Halves:
    """The items of all tasks, of which those that are for choosing are not in the table, in whichever task."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._chosen_by: set[str] = set()
        self.left_out: dict[str, int] = {}
        """How many items the table lacks because they are for choosing, by task."""

    def for_choosing(self, _task: str, items: Sequence[Item]) -> Sequence[Item]:
        """The half for choosing. Raises BadData if there are fewer than two items."""
        if len(items) < 2:
            message = f"it has {len(items)} item, and choosing needs other items than the table"
            raise BadData(message)
        half = draw(items, len(items) // 2, self._seed)
        self._chosen_by.update(map(_content, half))
        return half

    def for_table(self, task: str, items: Sequence[Item]) -> Sequence[Item]:
        """The items that nothing is chosen by. Raises BadData if there is none."""
        others = [item for item in items if _content(item) not in self._chosen_by]
        if items and not others:
            message = "all of its items are for choosing"
            raise BadData(message)
        self.left_out |= {task: len(items) - len(others)} if len(others) < len(items) else {}
        return others


def _content(item: Item) -> str:
    """What is asked: variants of a task, and tasks over parts of one, have the same items."""
    return json.dumps(item.content, sort_keys=True, default=repr)
