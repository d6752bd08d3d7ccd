"""Training rows: a prompt with its completion (sft) or a pair of completions (dpo), and the turns before the prompt."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True)
class Row:
    """A row for sft: the last prompt of a conversation, its completion, and the turns before.

    Args:
        prompt: the last prompt.
        input: further text to the prompt; empty if there is none.
        completion: the text to train on.
        before: the turns before the prompt.
        only_last: whether the loss covers only the completion, and no assistant turns in *before*.
    """

    prompt: str
    input: str
    completion: str
    before: tuple[Turn, ...] = ()
    only_last: bool = False

    @property
    def completions(self) -> tuple["Row", ...]:
        """The row as a sequence with one completion, as ``Pair.completions`` has two."""
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
class Pair:
    """A row for dpo: the better and the worse completion of one prompt, and the turns before it."""

    prompt: str
    input: str
    chosen: str
    rejected: str
    before: tuple[Turn, ...] = ()

    @property
    def completions(self) -> tuple[Row, ...]:
        """The chosen and the rejected completion, each as a row whose loss covers only that completion."""
        chosen, rejected = (
            Row(self.prompt, self.input, completion, self.before, only_last=True)
            for completion in (self.chosen, self.rejected)
        )
        return chosen, rejected

    @property
    def prompt_parts(self) -> tuple[str, ...]:
        """All text before the completions. Pairs with equal parts ask the same."""
        return (self.prompt, self.input, *_strings(self.before))

    @property
    def parts(self) -> tuple[str, ...]:
        """All text of the pair. Their digest decides the held-out split, so the parts of a pair must never change."""
        return (self.prompt, self.input, self.chosen, self.rejected, *_strings(self.before))


def _strings(turns: tuple[Turn, ...]) -> tuple[str, ...]:
    return tuple(string for turn in turns for string in (turn.role, turn.text))
