"""Asks two models in one child process: the base model alone, and the base model with the adapter."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from agent.data.own_template import OwnTemplate
from agent.local import LocalChild
from agent.orders.on_base.answer import AnswerRequest, Question
from agent.orders.on_base.model import MICRO_BATCH, LoraFile
from agent.orders.protocol import ChildProgress
from fedloom.adapters.local import LocalAdapter
from fedloom.cli.adapter.local_child import lora_file
from fedloom.cli.chat.screen import Answers, Column, drawn
from shared.campaign.spec import Template


class Asker:
    """Asks the base model and the adapted model.

    template: a template's name, or a file with one. None means the template of the adapter's campaign, or `chat` if the
    adapter has no campaign.
    """

    def __init__(
        self,
        child: LocalChild,
        adapter: LocalAdapter,
        template: str | None,
        max_new_tokens: int,
        temperature: float,
    ) -> None:
        self._lora = lora_file(adapter)
        self._title = f"adapted · {adapter.name}"
        self._template = _template(template) or adapter.template or "chat"
        self._child = child
        self._max_new_tokens = max_new_tokens
        self._temperature = temperature

    def load(self, on_progress: Callable[[ChildProgress], None]) -> None:
        """Load both models, so that errors show before the first question. Raises TaskFailed and ChildDied."""
        self._child.run(self._order([], self._lora), on_progress)

    def answers(self, questions: Sequence[str]) -> Iterator[Answers]:
        """Both answers to each question, in order, computed in batches. Raises TaskFailed and ChildDied."""
        for start in range(0, len(questions), MICRO_BATCH):
            batch = [Question(prompt=text) for text in questions[start : start + MICRO_BATCH]]
            base_texts, adapted_texts = (
                self._child.run(self._order(batch, adapter)).texts for adapter in (None, self._lora)
            )
            for base, adapted in zip(base_texts, adapted_texts, strict=True):
                yield Answers(Column("base", base), Column(self._title, adapted))

    def show(self, question: str, console: Console, *, seed: int) -> None:
        """Draw both answers as they are generated, the base model's first. Raises TaskFailed and ChildDied."""
        answers = Answers(Column("base"), Column(self._title, status="waiting"))
        with drawn(console, answers):
            for column, adapter in ((answers.base, None), (answers.adapted, self._lora)):
                order = self._order([Question(prompt=question)], adapter, seed)
                (column.text,) = self._child.run(order, column.progress, column.append).texts

    def _order(self, questions: list[Question], adapter: LoraFile | None, seed: int = 0) -> AnswerRequest:
        """The order to answer questions; without any the model is loaded, and the adapter tried on it."""
        return AnswerRequest(
            model=self._child.model,
            compute=self._child.compute,
            adapter=adapter,
            template=self._template,
            questions=questions,
            max_new_tokens=self._max_new_tokens,
            temperature=self._temperature,
            seed=seed,
        )


def _template(option: str | None) -> Template | OwnTemplate | None:
    """The template of an option. Raises TaskFailed if its file cannot be read."""
    match option:
        case None | "alpaca" | "vicuna" | "chat":
            return option
        case _:
            return OwnTemplate.read(Path(option))
