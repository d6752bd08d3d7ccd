"""Renders a row as text: the prompts, and the answer to each.

The loss covers the answers and the end marker after each, nothing else. Prompts and answers are separate from the
start, so that no code has to search a tokenised text for the beginning of an answer.
"""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from agent.data.own_template import OwnTemplate
from agent.data.replies import is_supervised, n_unprompted
from agent.data.rows import Row, Turn
from agent.train.data.control_tokens import ControlTokens
from agent.train.data.rendering.chat_template import ChatTemplate
from agent.train.data.rendering.conversations import ConversationRenderer
from agent.train.data.rendering.texts import Exchange, Omissions, Text
from shared.campaign.spec import Template

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


class Renderer:
    """Renders rows by one template. reads_clock: whether the text depends on the date."""

    def __init__(self, template: AnyTemplate, tokenizer: Any, day: date | None = None) -> None:
        """Raises TaskFailed (data) if the template cannot be used at all.

        Args:
            template: the campaign's, or the owner's own.
            tokenizer: the base model's.
            day: the date that a chat template sees; None means the date and time of the moment.
        """
        self._render: Callable[[Row], Text]
        self.reads_clock = False
        if template in ("alpaca", "vicuna"):
            self._render = _alpaca if template == "alpaca" else _vicuna
            return
        own = template if isinstance(template, OwnTemplate) else None
        chat_template = ChatTemplate(tokenizer, own, day)
        self.reads_clock = chat_template.reads_clock
        self._render = ConversationRenderer(chat_template, ControlTokens(tokenizer)).render

    def render(self, row: Row) -> Text:
        """Render *row*. Raises TaskFailed (data) if the template refuses it."""
        return self._render(row)


def _alpaca(row: Row) -> Text:
    system, turns = _opening(row)
    opening = system or (_ALPACA_INPUT if row.input else _ALPACA)
    exchanges, prompt, last = [], f"{opening}\n\n", len(turns) - 2
    for number, turn in enumerate(turns):
        if turn.role == "assistant":
            exchanges.append(Exchange(f"{prompt}### Response:\n", turn.text, is_supervised(row, turns, number)))
            prompt = "\n\n"
        elif number == last and row.input:
            prompt += f"### Instruction:\n{row.prompt}\n\n### Input:\n{row.input}\n\n"
        else:
            prompt += f"### Instruction:\n{turn.text}\n\n"
    return Text(tuple(exchanges), plain=True, omissions=Omissions(without_prompt=n_unprompted(row, turns)))


def _vicuna(row: Row) -> Text:
    system, turns = _opening(row)
    exchanges, prompt = [], f"{system or _VICUNA} "
    for number, turn in enumerate(turns):
        if turn.role == "assistant":
            # the space after the colon belongs to the answer, because tokenizers join it with the next word
            exchanges.append(Exchange(f"{prompt}ASSISTANT:", f" {turn.text}", is_supervised(row, turns, number)))
            prompt = ""
        else:
            prompt += f"USER: {turn.text} "
    return Text(tuple(exchanges), plain=True, omissions=Omissions(without_prompt=n_unprompted(row, turns)))


def _opening(row: Row) -> tuple[str, Sequence[Turn]]:
    """The text of the row's system turn, empty if it has none, and the other turns."""
    turns = row.turns
    return (turns[0].text, turns[1:]) if turns[0].role == "system" else ("", turns)
