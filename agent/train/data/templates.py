"""Renders a row as text: the prompts, and the answer to each.

The loss covers the answers and the end marker after each, nothing else. Prompts and answers are separate from the
start, so that no code has to search a tokenised text for the beginning of an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from agent.data.own_template import OwnTemplate
from agent.data.rows import Row, Turn
from agent.errors import TaskFailed
from shared.campaign.spec import Template
from shared.wire.leases import FailureKind

AnyTemplate = Template | OwnTemplate
"""A built-in template's name, or the owner's own template."""

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
    """A prompt, which is all text since the previous answer, and its answer.

    supervised: whether the loss covers the answer.
    """

    prompt: str
    answer: str
    supervised: bool = True


@dataclass(frozen=True)
class Text:
    """A rendered row: its exchanges end to end, to be tokenised without special tokens.

    plain: the text contains no special tokens. If true, the tokenizer's opening special tokens come before the text,
    and its end-of-sequence token follows each answer. If false, that token follows the last answer only, and only if
    the text has no other end marker.
    """

    exchanges: tuple[Exchange, ...]
    plain: bool


def render(row: Row, template: AnyTemplate, tokenizer: Any) -> Text:
    """Render *row*. Raises TaskFailed (data) if the chat template is missing, or refuses the row."""
    if isinstance(template, OwnTemplate):
        return _chat(row, tokenizer, template.text)
    if template == "alpaca":
        return _alpaca(row)
    if template == "vicuna":
        return _vicuna(row)
    check_template(template, tokenizer)
    return _chat(row, tokenizer, None)


def check_template(template: AnyTemplate, tokenizer: Any) -> None:
    """Raise TaskFailed (data) if *template* needs a chat template that *tokenizer* lacks."""
    if template == "chat" and not tokenizer.chat_template:
        raise _refused("the base model's tokenizer has no chat template: use the template alpaca or vicuna")


def _alpaca(row: Row) -> Text:
    system, turns = _opening(row)
    opening = system or (_ALPACA_INPUT if row.input else _ALPACA)
    exchanges, prompt, last = [], f"{opening}\n\n", len(turns) - 2
    for number, turn in enumerate(turns):
        if turn.role == "assistant":
            exchanges.append(Exchange(f"{prompt}### Response:\n", turn.text, _is_supervised(row, turns, number)))
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
            # the space after the colon belongs to the answer, because tokenizers join it with the next word
            exchanges.append(Exchange(f"{prompt}ASSISTANT:", f" {turn.text}", _is_supervised(row, turns, number)))
            prompt = ""
        else:
            prompt += f"USER: {turn.text} "
    return Text(tuple(exchanges), plain=True)


def _opening(row: Row) -> tuple[str, Sequence[Turn]]:
    """The text of the row's system turn, empty if it has none, and the other turns."""
    turns = row.turns
    return (turns[0].text, turns[1:]) if turns[0].role == "system" else ("", turns)


def _is_supervised(row: Row, turns: Sequence[Turn], number: int) -> bool:
    """Whether the loss covers a reply. It skips an earlier reply that is empty."""
    earlier = not row.only_last and turns[number].supervised and turns[number].text != ""
    return number == len(turns) - 1 or earlier


def _chat(row: Row, tokenizer: Any, template: str | None) -> Text:
    turns = row.turns
    rendered = _RenderedChat(turns, tokenizer, template)
    replies = [
        i for i, turn in enumerate(turns) if turn.role == "assistant" and i > 0 and _is_supervised(row, turns, i)
    ]
    spans: list[tuple[int, int]] = []
    for i in replies[:-1]:
        up_to_reply = rendered.prefix(i + 1).rstrip()
        if not rendered.text.startswith(up_to_reply):
            # Some templates render a turn differently once other turns follow: they drop a thought, for example. The
            # text does not show how an earlier reply looked when it was the last, so only the last is supervised.
            spans = []
            break
        spans.append((rendered.reply_start(i, up_to_reply), len(up_to_reply)))
    # Text after the end marker (usually a newline) is never generated, so it is not supervised.
    spans.append((rendered.reply_start(replies[-1], rendered.text), len(rendered.text.rstrip())))
    exchanges, previous_end = [], 0
    for start, end in spans:
        exchanges.append(Exchange(rendered.text[previous_end:start], rendered.text[start:end]))
        previous_end = end
    return Text(tuple(exchanges), plain=False)


class _RenderedChat:
    """A conversation and its prefixes, rendered by a chat template. ``text``: the whole conversation."""

    def __init__(self, turns: Sequence[Turn], tokenizer: Any, template: str | None) -> None:
        self._messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        self._tokenizer = tokenizer
        self._template = template
        self.text = self.prefix(len(turns))

    def prefix(self, n_turns: int, *, generation_prompt: bool = False) -> str:
        """The text of the first turns, with the generation prompt after them if requested."""
        messages = self._messages[:n_turns]
        try:
            text: str = self._tokenizer.apply_chat_template(
                messages, chat_template=self._template, tokenize=False, add_generation_prompt=generation_prompt
            )
        except TemplateSyntaxError as error:
            raise _refused(f"the chat template has an error in line {error.lineno}") from error
        except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
            # usually a template that takes no system turn, or no two turns of one role in a row
            roles = ", ".join(message["role"] for message in messages[:8])
            raise _refused(f"the chat template refuses a row of these turns: {roles}") from error
        return text

    def reply_start(self, reply: int, text: str) -> int:
        """The offset of a reply in *text*, which ends with that reply.

        Some templates render a prompt differently once it is answered: they add an empty thought, for example. The
        prompt is the beginning that both texts share.
        """
        prompt = self.prefix(reply, generation_prompt=True)
        return next((i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b), len(prompt))


def _refused(message: str) -> TaskFailed:
    return TaskFailed(FailureKind.DATA, message)
