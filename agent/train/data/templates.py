"""How a row becomes text: what comes before each answer, and the answer.

The loss covers the answers and the end marker after each, nothing else. They are kept apart from the start, so that
nobody has to search a tokenised text for where an answer begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from agent.data.own_template import OwnTemplate
from agent.data.rows import Row, Turn
from agent.errors import TaskFailed
from shared.campaign import Template
from shared.wire.leases import FailureKind

# Taori et al. 2023, Stanford Alpaca.
_ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
_ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)
# Chiang et al. 2023, Vicuna 1.1.
_VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class Exchange:
    """An answer, and what comes between it and the answer before. learnt: whether the loss covers it."""

    prompt: str
    answer: str
    supervised: bool = True


@dataclass(frozen=True)
class Text:
    """A rendered row: its exchanges end to end, tokenised without special tokens.

    plain: the text has no special tokens of its own. Then those that the tokenizer puts before a text come first, and
    its end of sequence after each answer; otherwise after the last one only, and only where the text has no other end.
    """

    exchanges: tuple[Exchange, ...]
    plain: bool


def render(row: Row, template: Template | OwnTemplate, tokenizer: Any) -> Text:
    """Render *row*. Raises TaskFailed (data) where a chat template is missing, or refuses the row."""
    if isinstance(template, OwnTemplate):
        return _chat(row, tokenizer, template.text)
    if template == "alpaca":
        return _alpaca(row)
    if template == "vicuna":
        return _vicuna(row)
    check(template, tokenizer)
    return _chat(row, tokenizer, None)


def check(template: Template | OwnTemplate, tokenizer: Any) -> None:
    """Raise TaskFailed (data) if *tokenizer* cannot do *template*."""
    if template == "chat" and not tokenizer.chat_template:
        raise _refused("the base model's tokenizer has no chat template: use the template alpaca or vicuna")


def _alpaca(row: Row) -> Text:
    system, turns = _opening(row)
    opening = system or (_ALPACA_INPUT if row.input else _ALPACA)
    exchanges, prompt, last = [], f"{opening}\n\n", len(turns) - 2
    for number, turn in enumerate(turns):
        if turn.role == "assistant":
            exchanges.append(Exchange(f"{prompt}### Response:\n", turn.text, _is_learnt(row, turns, number)))
            prompt = "\n\n"
        elif number == last and row.input:
            prompt += f"### Instruction:\n{row.prompt}\n\n### Input:\n{row.input}\n\n"
        else:
            prompt += f"### Instruction:\n{turn.text}\n\n"
    return Text(tuple(exchanges), plain=True)


def _vicuna(row: Row) -> Text:
    system, turns = _opening(row)
    exchanges, prompt = [], f"{system or _VICUNA} "
    for number, turn in enumerate(turns):
        if turn.role == "assistant":
            # The space after the colon belongs to the answer, for tokenizers join it with the word that follows.
            exchanges.append(Exchange(f"{prompt}ASSISTANT:", f" {turn.text}", _is_learnt(row, turns, number)))
            prompt = ""
        else:
            prompt += f"USER: {turn.text} "
    return Text(tuple(exchanges), plain=True)


def _opening(row: Row) -> tuple[str, Sequence[Turn]]:
    """What the row's system turn says, or nothing, and the other turns."""
    turns = row.turns
    return (turns[0].text, turns[1:]) if turns[0].role == "system" else ("", turns)


def _is_learnt(row: Row, turns: Sequence[Turn], number: int) -> bool:
    """Whether the loss covers a reply: an earlier one that is empty has nothing to learn."""
    return number == len(turns) - 1 or (not row.only_last and turns[number].text != "")


def _chat(row: Row, tokenizer: Any, template: str | None) -> Text:
    turns = row.turns
    rendered = _Rendered(turns, tokenizer, template)
    replies = [i for i, turn in enumerate(turns) if turn.role == "assistant" and i > 0 and _is_learnt(row, turns, i)]
    spans: list[tuple[int, int]] = []
    for i in replies[:-1]:
        ends = rendered.first(i + 1).rstrip()
        if not rendered.whole.startswith(ends):
            # Some templates render a turn otherwise once others follow (they drop a thought, say): what earlier
            # replies were like when they were the last cannot be seen here, so the last alone is learnt.
            spans = []
            break
        spans.append((rendered.start(i, ends), len(ends)))
    # What follows the end marker (a newline, most often) is never generated, so it is not learnt.
    spans.append((rendered.start(replies[-1], rendered.whole), len(rendered.whole.rstrip())))
    exchanges, done = [], 0
    for start, end in spans:
        exchanges.append(Exchange(rendered.whole[done:start], rendered.whole[start:end]))
        done = end
    return Text(tuple(exchanges), plain=False)


class _Rendered:
    """A conversation and its beginnings, as a chat template renders them."""

    def __init__(self, turns: Sequence[Turn], tokenizer: Any, template: str | None) -> None:
        self._messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        self._tokenizer = tokenizer
        self._template = template
        self.whole = self.first(len(turns))

    def first(self, n_turns: int, *, ask: bool = False) -> str:
        """The first turns, and what makes the model answer them."""
        some = self._messages[:n_turns]
        try:
            text: str = self._tokenizer.apply_chat_template(
                some, chat_template=self._template, tokenize=False, add_generation_prompt=ask
            )
        except TemplateSyntaxError as error:
            raise _refused(f"the chat template has an error in line {error.lineno}") from error
        except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
            # most often one that takes no system turn, or two of one side in a row
            roles = ", ".join(message["role"] for message in some[:8])
            raise _refused(f"the chat template refuses a row of these turns: {roles}") from error
        return text

    def start(self, reply: int, text: str) -> int:
        """Where a reply begins in *text*, which ends with it. Some templates render a prompt alone differently from one
        that was answered (an empty thought, say): what both begin with is the prompt."""
        prompt = self.first(reply, ask=True)
        return next((i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b), len(prompt))


def _refused(message: str) -> TaskFailed:
    return TaskFailed(FailureKind.DATA, message)
