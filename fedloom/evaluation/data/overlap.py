"""Evaluation items that occur in training rows: a model that has seen them shows nothing by answering them."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fedloom.evaluation.tasks.base import Item

Match = Literal["exact", "normalised"]
MIN_WORDS = 5
"""An item with fewer words occurs only where a whole training text is it: "yes, it did" is in many texts."""
# Scripts without spaces between words: each character is one.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


_MAIN = {"text", "sentence", "question", "prompt", "problem", "goal", "input", "instruction"}


@dataclass(frozen=True)
class Occurrence:
    """One item that occurs in training rows.

    Args:
        item: its id.
        row: index of the first training text with it, an exact one if there is one.
        match: ``exact``, or ``normalised`` if case, punctuation, white space or Unicode form differ.
        n_rows: how many training texts have it.
    """

    item: str
    row: int
    match: Match
    n_rows: int


@dataclass(frozen=True)
class Overlap:
    """What of some items occurs in training rows.

    Args:
        occurrences: in the order of the items.
        n_items: items that were looked for.
        n_rows: training texts that were read.
    """

    occurrences: Sequence[Occurrence]
    n_items: int
    n_rows: int

    @property
    def n_exact(self) -> int:
        """Items that occur exactly."""
        return sum(found.match == "exact" for found in self.occurrences)

    def warning(self, task: str) -> str:
        """A sentence for people; empty if nothing occurs."""
        n = len(self.occurrences)
        if not n:
            return ""
        items, occur = ("item", "occurs") if self.n_items == 1 else ("items", "occur" if n != 1 else "occurs")
        return (
            f"{n:,} of {self.n_items:,} {items} of {task} ({n / self.n_items:.1%}) {occur} in the {self.n_rows:,} "
            f"training rows, {self.n_exact:,} exactly"
        )


def main_text(item: Item) -> str:
    """What identifies an item: its text, question, prompt or the like, and without any of these its longest text."""
    for name, value in item.content.items():
        if isinstance(value, str) and name.lower() in _MAIN:
            return value
    return max((value for value in item.content.values() if isinstance(value, str)), key=len, default="")


def words_of(text: str) -> list[str]:
    """The words of a text without case, punctuation and Unicode form."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def overlap(items: Iterable[Item], training: Iterable[str], text_of: Callable[[Item], str] = main_text) -> Overlap:
    """As ``overlaps``, of the items of one task."""
    return overlaps({"": items}, training, text_of)[""]


def overlaps(
    items: Mapping[str, Iterable[Item]], training: Iterable[str], text_of: Callable[[Item], str] = main_text
) -> dict[str, Overlap]:
    """Look for items in training texts, as whole words anywhere in them. Reads the training texts once for all tasks.

    Args:
        items: by the name of their task.
        training: the text of each training row.
        text_of: what of an item is looked for. Items without a word in it are not looked for.
    """
    index = _Index(text_of)
    places = {task: index.add(each) for task, each in items.items()}
    found: dict[int, Occurrence] = {}
    n_rows = 0
    for row, text in enumerate(training):
        n_rows += 1
        for place in index.places_in(text):
            match: Match = "exact" if index.texts[place] in text else "normalised"
            earlier = found.get(place)
            if earlier is None:
                found[place] = Occurrence(index.ids[place], row, match, 1)
                continue
            better = match == "exact" and earlier.match == "normalised"
            first, kind = (row, match) if better else (earlier.row, earlier.match)
            found[place] = Occurrence(earlier.item, first, kind, earlier.n_rows + 1)
    return {
        task: Overlap([found[place] for place in own if place in found], len(own), n_rows)
        for task, own in places.items()
    }


class _Index:
    """Items by their first words. Each has a place, in the order in which they are added."""

    def __init__(self, text_of: Callable[[Item], str]) -> None:
        self._text_of = text_of
        self.ids: list[str] = []
        self.texts: list[str] = []
        self._words: list[list[str]] = []
        self._short: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        self._long: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)

    def add(self, items: Iterable[Item]) -> range:
        """Add the items that have a word. Returns their places."""
        begin = len(self.ids)
        for item in items:
            text = self._text_of(item).strip()
            words = words_of(text)
            if not words:
                continue
            place = len(self.ids)
            self.ids.append(item.id)
            self.texts.append(text)
            self._words.append(words)
            if len(words) < MIN_WORDS:
                self._short[tuple(words)].append(place)
            else:
                self._long[tuple(words[:MIN_WORDS])].append(place)
        return range(begin, len(self.ids))

    def places_in(self, text: str) -> Iterator[int]:
        """Places of the items that occur in a text, each once."""
        words = words_of(text)
        if len(words) < MIN_WORDS:
            yield from self._short.get(tuple(words), ())
            return
        seen: set[int] = set()
        # zip of shifted lists: the tuples of neighbouring words
        for start, key in enumerate(zip(*(words[shift:] for shift in range(MIN_WORDS)), strict=False)):
            for place in self._long.get(key, ()):
                wanted = self._words[place]
                if place not in seen and words[start : start + len(wanted)] == wanted:
                    seen.add(place)
                    yield place
