"""The report on a check of the owner's data. It quotes rows, so it is shown on this machine and never sent."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

MAX_ERRORS, MAX_PLACES = 50, 10
"""Different errors, and notices, that a report lists, and places that it lists for each. The rest is only counted."""


class Part(BaseModel):
    """A part of a report."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Spread(Part):
    """Minimum, percentiles and maximum of some numbers."""

    least: int
    median: int
    p90: int
    p99: int
    most: int

    @classmethod
    def of(cls, numbers: Iterable[int]) -> "Spread | None":
        """Return the spread of some numbers, without interpolation; None if there are no numbers."""
        ordered = sorted(numbers)
        if not ordered:
            return None
        least, median, p90, p99, most = (ordered[(len(ordered) - 1) * part // 100] for part in (0, 50, 90, 99, 100))
        return cls(least=least, median=median, p90=p90, p99=p99, most=most)


class Span(Part):
    """A part of an example's text. supervised: whether the loss covers it."""

    text: str
    supervised: bool


class ShownCompletion(Part):
    """One conversation of an example, as the model sees it.

    name: "chosen" or "rejected" for a pair, otherwise empty. cut: number of tokens beyond the maximum length.
    """

    name: str
    spans: list[Span]
    cut: int = 0


class Example(Part):
    """A row as the model sees it in training. place: where it is, such as "line 3"."""

    place: str
    completions: list[ShownCompletion]


class Problem(Part):
    """An error or a notice, at one or more places.

    Args:
        label: the name of the file or data set.
        message: continues the first place: " has no column 'x'".
        places: the first places, such as "line 3"; empty text for one of the whole file.
        count: the number of all places.
    """

    label: str
    message: str
    places: list[str]
    count: int

    def __str__(self) -> str:
        first, *others = self.places
        n_more = self.count - len(self.places)
        also = f"; also {', '.join(others)}" if others else ""
        return f"{self.label}: {first}{self.message}{also}{f', and {n_more:,} more' if n_more else ''}"


class Tokens(Part):
    """The part of a report that needs a tokenizer.

    Args:
        model: the campaign's base model.
        template: the chat template, the owner's or the campaign's.
        max_length: the campaign's maximum length, in tokens.
        lengths: tokens of each row, or of each completion of a pair with its prompt, before any cut.
        supervised: tokens of these that the loss covers.
        cut: number of rows that are cut at the maximum length.
    """

    model: str
    template: str
    max_length: int
    lengths: Spread | None
    supervised: Spread | None
    cut: int


class DataReport(Part):
    """The report on an owner's data, for one kind of training.

    Args:
        name: the data's name in agent.toml.
        label: the name of the file or data set.
        kind: the kind of training.
        records: number of records in all files.
        train: number of rows to train on.
        held_out: number of rows to evaluate on.
        skipped: number of skipped records by reason. Errors are not among them.
        errors: the first MAX_ERRORS different errors.
        n_errors: number of errors, at all places.
        notices: the first MAX_ERRORS different notices: what of usable data is not read or not learnt.
        duplicates: number of rows that equal an earlier one, whatever their white space and capital letters.
        overlap: number of rows that are not trained on because the owner's held-out file has them too.
        same_prompt: number of training rows whose prompt is also that of a held-out row, compared in the same way.
        characters: characters of each row, or of each completion of a pair with its prompt.
        tokens: None if no tokenizer was used.
        examples: a few of the training rows.
    """

    name: str
    label: str
    kind: str
    records: int
    train: int
    held_out: int
    skipped: dict[str, int]
    errors: list[Problem]
    n_errors: int
    notices: list[Problem] = []
    duplicates: int
    overlap: int
    same_prompt: int
    characters: Spread | None
    tokens: Tokens | None = None
    examples: list[Example]

    @property
    def unusable(self) -> str:
        """Why the data cannot be used for training; empty if it can."""
        if self.n_errors:
            return f"{self.n_errors} {'error' if self.n_errors == 1 else 'errors'}"
        return "" if self.train else "there is no row to train on"
