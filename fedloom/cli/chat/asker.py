"""Asks two models in one child: the base alone, and with the adapter on it."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from agent.child import Question
from agent.data.own_template import OwnTemplate
from agent.local import MICRO_BATCH, LocalChild
from fedloom.adapters.local import LocalAdapter
from fedloom.cli.chat.screen import Answers, Side, drawn
from fedloom.cli.adapter.local_child import lora_file
from shared.campaign import Template
from shared.wire.leases import Progress


class Asker:
    """Two models and how they are asked. template: the name of one, or a file; None for the campaign's, or `chat` where
    no campaign is known."""

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
        self._ask = partial(child.ask, template=self._template, max_new_tokens=max_new_tokens, temperature=temperature)

    def load(self, on_progress: Callable[[Progress], None]) -> None:
        """Load the models, so that what is wrong shows before a question is asked. Raises TaskFailed and ChildDied."""
        self._child.load(self._template, self._lora, on_progress)

    def answers(self, questions: Sequence[str]) -> Iterator[Answers]:
        """Both answers to each question, in their order, some at a time. Raises TaskFailed and ChildDied."""
        for begin in range(0, len(questions), MICRO_BATCH):
            some = [Question(prompt=one) for one in questions[begin : begin + MICRO_BATCH]]
            for base, adapted in zip(self._ask(some), self._ask(some, adapter=self._lora), strict=True):
                yield Answers(Side("base", base), Side(self._title, adapted))

    def show(self, question: str, console: Console, *, seed: int) -> None:
        """Draw both answers as they grow, the base's first. Raises TaskFailed and ChildDied."""
        answers = Answers(Side("base"), Side(self._title, waiting="waiting"))
        with drawn(console, answers):
            for side, adapter in ((answers.base, None), (answers.adapted, self._lora)):
                (side.text,) = self._ask(
                    [Question(prompt=question)],
                    adapter=adapter,
                    seed=seed,
                    on_progress=side.progress,
                    on_text=side.piece,
                )


def _template(given: str | None) -> Template | OwnTemplate | None:
    """Raises TaskFailed for a file that cannot be read."""
    match given:
        case None | "alpaca" | "vicuna" | "chat":
            return given
        case _:
            return OwnTemplate.read(Path(given))
