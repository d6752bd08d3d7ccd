"""What a corpus is: texts with one of three labels."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from fedloom.evaluation.tasks.base import BadData, DataFile, Item, Items

LABELS = ("negative", "neutral", "positive")


class Corpus(ABC):
    """Texts with labels. Items have ``text``, ``kind`` (news or tweet) and ``label``.

    n_published: (of the class) items of the published test.
    """

    name: str
    title: str
    files: Sequence[DataFile]
    n_published: int

    @abstractmethod
    def load(self, data: Path) -> Items:
        """Read the items of the test. Raises DataMissing and BadData."""


def item(place: int, text: str, label: str, kind: str = "news", group: str = "") -> Item:
    """An item. place: the index of its row in the file."""
    return Item(str(place), group, {"text": text, "kind": kind, "label": label})


def checked_label(label: str, where: str) -> str:
    """A label in lower case. Raises BadData, which says where."""
    found = label.strip().lower()
    if found not in LABELS:
        raise BadData(f"{where}: the label is none of {', '.join(LABELS)}")
    return found
