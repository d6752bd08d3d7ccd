"""Training rows: a prompt with its completion, or with several that are compared, and the turns before the prompt."""

from dataclasses import dataclass
from typing import Literal

from agent.data.local_names import LocalName, public

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Turn:
    """One message of a conversation. supervised: whether the loss may cover it."""

    role: Role
    text: str
    supervised: bool = True


@dataclass(frozen=True)
class Row:
    """The last prompt of a conversation, its completion, and the turns before.

    Args:
        prompt: the last prompt.
        input: further text to the prompt; empty if there is none.
        completion: the text to train on.
        before: the turns before the prompt.
        only_last: whether the loss covers only the completion, and no assistant turns in *before*.
        labels: the values of the kind's label columns, in its order; true is 1.
    """

    prompt: str
    input: str
    completion: str
    before: tuple[Turn, ...] = ()
    only_last: bool = False
    labels: tuple[float, ...] = ()

    @property
    def completions(self) -> tuple["Row", ...]:
        """The row as a sequence with one completion, as ``Comparison.completions`` has several."""
        return (self,)

    @property
    def question(self) -> str:
        """Prompt and input as one text."""
        return f"{self.prompt}\n\n{self.input}" if self.input else self.prompt

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The whole conversation; its last turn is the completion."""
        return (*self.before, Turn("user", self.question), Turn("assistant", self.completion))

    @property
    def prompt_parts(self) -> tuple[str, ...]:
        """All text before the completion. Rows with equal parts ask the same."""
        return (self.prompt, self.input, *_strings(self.before))

    @property
    def parts(self) -> tuple[str, ...]:
        """All text of the row. Their digest decides the held-out split, so the parts of a row must never change."""
        return (self.prompt, self.input, self.completion, *_strings(self.before))


@dataclass(frozen=True)
class Comparison:
    """Several completions of one prompt, which are compared, and the turns before it.

    Args:
        prompt: the last prompt of a conversation.
        input: further text to the prompt; empty if there is none.
        answers: the completions, in the order of the kind's.
        before: the turns before the prompt.
        labels: as in ``Row``.
    """

    prompt: str
    input: str
    answers: tuple[str, ...]
    before: tuple[Turn, ...] = ()
    labels: tuple[float, ...] = ()

    @property
    def completions(self) -> tuple[Row, ...]:
        """Each completion as a row whose loss covers only that completion."""
        return tuple(Row(self.prompt, self.input, answer, self.before, only_last=True) for answer in self.answers)

    @property
    def prompt_parts(self) -> tuple[str, ...]:
        """All text before the completions. Rows with equal parts ask the same."""
        return (self.prompt, self.input, *_strings(self.before))

    @property
    def parts(self) -> tuple[str, ...]:
        """All text of the row. Their digest decides the held-out split, so the parts of a row must never change."""
        return (self.prompt, self.input, *self.answers, *_strings(self.before))


@dataclass(frozen=True)
class LocatedRow:
    """A row with its place in the owner's files. label: the file or data set. place: in it, such as "line 3"."""

    label: str
    place: str
    row: Row | Comparison

    @property
    def where(self) -> str:
        """The file and the place in it."""
        return LocalName(f"{self.label}: {self.place}", f"{public(self.label)}: {public(self.place)}")


def _strings(turns: tuple[Turn, ...]) -> tuple[str, ...]:
    return tuple(string for turn in turns for string in (turn.role, turn.text))
