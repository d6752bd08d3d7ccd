"""What there is to learn from: a prompt and its completion, or a pair of completions, with the turns before them."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Turn:
    """What one side said in a conversation."""

    role: Role
    text: str


@dataclass(frozen=True)
class Row:
    """One record of the owner's data: the last prompt and its completion, and the turns before them.

    ``input`` is empty where the record has none. only_last: completions among the turns before are not learnt.
    """

    prompt: str
    input: str
    completion: str
    before: tuple[Turn, ...] = ()
    only_last: bool = False

    @property
    def completions(self) -> tuple["Row", ...]:
        """What the model is shown of the record."""
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
    def asked(self) -> tuple[str, ...]:
        """What the completion answers, as strings."""
        return (self.prompt, self.input, *_strings(self.before))

    @property
    def parts(self) -> tuple[str, ...]:
        """All that it says. Rows of one turn are split by the digest of these, so their parts must stay as they are."""
        return (self.prompt, self.input, self.completion, *_strings(self.before))


@dataclass(frozen=True)
class Pair:
    """One record of preferences: the better and the worse completion of one prompt, and the turns before it."""

    prompt: str
    input: str
    chosen: str
    rejected: str
    before: tuple[Turn, ...] = ()

    @property
    def completions(self) -> tuple[Row, ...]:
        """What the model is shown of the record: the chosen side, the rejected side."""
        chosen, rejected = (
            Row(self.prompt, self.input, completion, self.before, only_last=True)
            for completion in (self.chosen, self.rejected)
        )
        return chosen, rejected

    @property
    def asked(self) -> tuple[str, ...]:
        """What the completions answer, as strings."""
        return (self.prompt, self.input, *_strings(self.before))

    @property
    def parts(self) -> tuple[str, ...]:
        """All that it says. Pairs of one turn are split by the digest of these, so their parts must stay as they
        are."""
        return (self.prompt, self.input, self.chosen, self.rejected, *_strings(self.before))


def _strings(turns: tuple[Turn, ...]) -> tuple[str, ...]:
    return tuple(string for turn in turns for string in (turn.role, turn.text))
