"""What a check of the owner's data finds. It is shown on this machine and never leaves: it quotes rows."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from shared.campaign import TrainingKind

MOST_ERRORS, MOST_PLACES = 50, 10
"""Errors that are told, and places of each; the others are counted."""


class Part(BaseModel):
    """A part of a report."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Spread(Part):
    """How some numbers are spread."""

    least: int
    median: int
    p90: int
    p99: int
    most: int

    @classmethod
    def of(cls, numbers: Iterable[int]) -> "Spread | None":
        """The spread of some numbers, each a number that is among them; None where there are none."""
        found = sorted(numbers)
        if not found:
            return None
        least, median, p90, p99, most = (found[(len(found) - 1) * part // 100] for part in (0, 50, 90, 99, 100))
        return cls(least=least, median=median, p90=p90, p99=p99, most=most)


class Span(Part):
    """Text of an example. learnt: whether the loss covers it."""

    text: str
    supervised: bool


class ShownCompletion(Part):
    """What the model is shown of an example. name: which completion of a pair, or nothing. cut: tokens beyond the
    maximum length."""

    name: str
    spans: list[Span]
    cut: int = 0


class Example(Part):
    """A row as it is trained on. place: such as "line 3"."""

    place: str
    completions: list[ShownCompletion]


class Problem(Part):
    """Something that is wrong, in one place or several. places: the first of them, such as "line 3", after which the
    message goes on."""

    label: str
    message: str
    places: list[str]
    count: int

    def __str__(self) -> str:
        first, *others = self.places
        rest = self.count - len(self.places)
        same = f"; the same: {', '.join(others)}" if others else ""
        return f"{self.label}: {first}{self.message}{same}{f', and {rest:,} more' if rest else ''}"


class Tokens(Part):
    """What a tokenizer finds. model, template, max_length: the campaign's. lengths, learnt: tokens of each row, or side
    of a pair, before any cut, and those of them that the loss covers. cut: rows that lose their end."""

    model: str
    template: str
    max_length: int
    lengths: Spread | None
    supervised: Spread | None
    cut: int


class DataReport(Part):
    """What is in an owner's data, for one kind of training.

    records: in all files. train, held_out: rows to train on and to evaluate on. left_out: the others that are no
    errors, by the reason. errors: the first of them; n_errors: all. duplicates: rows that equal an earlier one.
    overlap: rows that stand among the held-out ones too, and are not trained on. same_prompt: rows to train on that ask
    what a held-out row asks. characters: of each row, or side of a pair. tokens: None where no tokenizer was asked.
    """

    name: str
    label: str
    kind: TrainingKind
    records: int
    train: int
    held_out: int
    left_out: dict[str, int]
    errors: list[Problem]
    n_errors: int
    duplicates: int
    overlap: int
    same_prompt: int
    characters: Spread | None
    tokens: Tokens | None = None
    examples: list[Example]

    @property
    def unusable(self) -> str:
        """Why training cannot use the data; nothing where it can."""
        if self.n_errors:
            return f"{self.n_errors} {'error' if self.n_errors == 1 else 'errors'}"
        return "" if self.train else "there is no row to train on"
