"""The exam: questions in phrasings that no training row has, scored by exact match."""

from collections.abc import Sequence
from pathlib import Path

from agent.configuration.settings import ComputeSettings
from agent.local import LocalChild
from agent.orders.on_base.answer import AnswerRequest, Question
from agent.orders.on_base.model import LoraFile
from shared.campaign.spec import BaseSection, DataSection

_LONGEST_ANSWER = 24
_AT_ONCE = 96

Marks = dict[str, float]
"""Share of exact answers, by owner of the question and over all of them."""


class Exam:
    """Asks several models the same questions. questions: rows with owner, prompt, completion."""

    def __init__(self, questions: Sequence[dict[str, str]], base: Path, data: DataSection, folder: Path) -> None:
        self._rows = list(questions)
        self._template = data.template
        self._child = LocalChild(
            BaseSection(model=str(base)), compute=ComputeSettings(device="cpu", threads=1), folder=folder
        )

    def __enter__(self) -> "Exam":
        self._child.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._child.__exit__(None, None, None)

    def answers(self, adapter: LoraFile | None) -> list[str]:
        """Greedy answers of the base model, with an adapter or without one."""
        order = AnswerRequest(
            model=self._child.model,
            compute=self._child.compute,
            questions=[Question(prompt=row["prompt"]) for row in self._rows],
            template=self._template,
            adapter=adapter,
            max_new_tokens=_LONGEST_ANSWER,
            micro_batch=_AT_ONCE,
        )
        return self._child.run(order).texts

    def marks(self, adapter: LoraFile | None) -> Marks:
        """The share of answers that match exactly."""
        answers = self.answers(adapter)
        correct = [answer.strip() == row["completion"] for answer, row in zip(answers, self._rows, strict=True)]
        owners = sorted({row["owner"] for row in self._rows})
        by_owner = {
            owner: [ok for ok, row in zip(correct, self._rows, strict=True) if row["owner"] == owner]
            for owner in owners
        }
        return {**{owner: sum(oks) / len(oks) for owner, oks in by_owner.items()}, "all": sum(correct) / len(correct)}
