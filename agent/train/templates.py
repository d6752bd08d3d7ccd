"""How a row becomes the text of a prompt and the text of its completion.

The loss covers the completion's text and the end marker after it, nothing else. Prompt and completion are kept apart
from the start, so that nobody has to search a tokenised text for where the answer begins.
"""

from dataclasses import dataclass
from typing import Any

from agent.errors import TaskFailed
from shared.campaign import Template
from shared.wire.leases import FailureKind

# Taori et al. 2023, Stanford Alpaca.
_ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Response:\n"
)
_ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Input:\n{input}\n\n### Response:\n"
)
# Chiang et al. 2023, Vicuna 1.1. The space after the colon belongs to the answer, for tokenizers join it with the word
# that follows.
_VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
    "USER: {prompt} ASSISTANT:"
)


@dataclass(frozen=True)
class Row:
    """One record of the owner's data. ``input`` is empty where the row has none."""

    prompt: str
    input: str
    completion: str

    @property
    def sides(self) -> tuple["Row", ...]:
        """What the model is shown of the record."""
        return (self,)

    @property
    def question(self) -> str:
        """Prompt and input as one text."""
        return f"{self.prompt}\n\n{self.input}" if self.input else self.prompt


@dataclass(frozen=True)
class Pair:
    """One record of preferences: the better and the worse completion of one prompt."""

    prompt: str
    input: str
    chosen: str
    rejected: str

    @property
    def sides(self) -> tuple[Row, ...]:
        """What the model is shown of the record: the chosen side, the rejected side."""
        return Row(self.prompt, self.input, self.chosen), Row(self.prompt, self.input, self.rejected)


@dataclass(frozen=True)
class Text:
    """A rendered row. ``completion`` follows ``prompt`` directly; both are tokenised without special tokens, except
    that ``starts_bare`` asks for those that the tokenizer puts before a text."""

    prompt: str
    completion: str
    starts_bare: bool


def render(row: Row, template: Template, tokenizer: Any) -> Text:
    """Render *row*. Raises TaskFailed (data) where the chat template is asked for and the tokenizer has none."""
    if template == "alpaca":
        form = _ALPACA_INPUT if row.input else _ALPACA
        return Text(form.format(prompt=row.prompt, input=row.input), row.completion, starts_bare=True)
    if template == "vicuna":
        return Text(_VICUNA.format(prompt=row.question), f" {row.completion}", starts_bare=True)
    return _chat(row, tokenizer)


def check(template: Template, tokenizer: Any) -> None:
    """Raise TaskFailed (data) if *tokenizer* cannot do *template*."""
    if template == "chat" and not tokenizer.chat_template:
        raise TaskFailed(
            FailureKind.DATA,
            "the base model's tokenizer has no chat template: use the template alpaca or vicuna",
        )


def _chat(row: Row, tokenizer: Any) -> Text:
    check("chat", tokenizer)
    question = {"role": "user", "content": row.question}
    answer = {"role": "assistant", "content": row.completion}
    prompt: str = tokenizer.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
    whole: str = tokenizer.apply_chat_template([question, answer], tokenize=False)
    # Some templates render a prompt alone differently from one that was answered (an empty thought, say): what both
    # begin with is the prompt.
    shared = next((i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), len(prompt))
    prompt = whole[:shared]
    # What follows the end marker (a newline, most often) is never generated, so it is not learnt.
    return Text(prompt, whole[len(prompt) :].rstrip(), starts_bare=False)
