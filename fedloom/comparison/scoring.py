"""Scores of a model on rows: its loss, its exact answers, or the completion that it finds likeliest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from agent.configuration.settings import AgentSettings
from agent.data.own_template import template_of
from agent.local import LocalChild
from agent.orders.on_base.answer import AnswerRequest, Question
from agent.orders.on_base.model import LoraFile
from agent.orders.on_base.score import Completed, Scored, ScoreRequest
from fedloom.comparison.criterion import METRICS_OF, Measure
from fedloom.comparison.rows import Rows
from fedloom.comparison.spec import ScoreSection
from fedloom.errors import ComparisonError
from fedloom.evaluation.asking.child_model import ChildModel
from fedloom.evaluation.asking.warm_base import WarmBase
from shared.campaign.spec import CampaignSpec

Scores = dict[str, float]

_MICRO_BATCH = 32


class Scorer:
    """Scores adapters on one base model, which a child process holds. Use it as a context manager."""

    def __init__(
        self,
        spec: CampaignSpec,
        settings: AgentSettings,
        score: ScoreSection,
        folder: Path,
        *,
        measures: Sequence[Measure],
    ) -> None:
        """Raises NotInstalled, OSError, and TaskFailed if the template is not text.

        Args:
            spec: whose base model and template are used.
            settings: of the clients.
            score: how long an answer may be.
            folder: for the child's log.
            measures: what rows are scored by.
        """
        self.metrics = frozenset(metric for measure in measures for metric in METRICS_OF[measure])
        self._measures = measures
        self._template = template_of(settings.data[spec.data.name], spec.data.template)
        self._score = score
        path = settings.models.get(spec.base.model)
        self._child = LocalChild(spec.base, path, compute=settings.compute, folder=folder)
        self._base: WarmBase | None = None

    def __enter__(self) -> Self:
        self._child.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._child.__exit__(None, None, None)

    def abort(self) -> None:
        """End the child at once, from another thread: ``scores`` raises TaskFailed or ChildDied."""
        self._child.abort()

    def model(self, name: str, adapter: LoraFile | None) -> ChildModel:
        """The base model with *adapter*, None for the base alone, as evaluation tasks ask it.

        Raises TaskFailed, ChildDied and OSError.
        """
        if self._base is None:
            self._base = WarmBase(self._child)
        return ChildModel(self._base, name, adapter)

    def scores(self, rows: Rows, adapter: LoraFile | None) -> Scores:
        """Score the base model with *adapter*, None for the base alone.

        Raises TaskFailed and ChildDied, and of the base alone ComparisonError if no answer could be exact.
        """
        scores: Scores = {}
        for measure in self._measures:
            scores |= self._measured(measure, rows, adapter)
        return scores

    def _measured(self, measure: Measure, rows: Rows, adapter: LoraFile | None) -> Scores:
        match measure:
            case "loss":
                scored = self._log_probs(rows.rows, adapter)
                return {"loss": -sum(scored.log_probs) / sum(scored.n_tokens)}
            case "exact":
                return self._exact(rows.rows, adapter)
            case "choice":
                return self._choice(rows, adapter)

    def _log_probs(self, rows: Sequence[Completed], adapter: LoraFile | None) -> Scored:
        order = ScoreRequest(
            model=self._child.model,
            compute=self._child.compute,
            adapter=adapter,
            template=self._template,
            rows=list(rows),
            micro_batch=_MICRO_BATCH,
        )
        return self._child.run(order)

    def _exact(self, rows: Sequence[Completed], adapter: LoraFile | None) -> Scores:
        if adapter is None:  # the base is scored before anything is trained
            self._check_reach(rows)
        order = AnswerRequest(
            model=self._child.model,
            compute=self._child.compute,
            adapter=adapter,
            template=self._template,
            questions=[Question(prompt=row.prompt, input=row.input) for row in rows],
            max_new_tokens=self._score.max_new_tokens,
            micro_batch=_MICRO_BATCH,
        )
        answers = self._child.run(order).texts
        right = sum(answer.strip() == row.completion.strip() for answer, row in zip(answers, rows, strict=True))
        return {"accuracy": right / len(rows)}

    def _check_reach(self, rows: Sequence[Completed]) -> None:
        """Raise ComparisonError if every completion is longer than an answer may be."""
        longest = self._score.max_new_tokens
        shortest = min(self._log_probs(rows, None).n_tokens) - 1  # without the end marker, which an answer may lack
        if shortest > longest:
            raise ComparisonError(
                f"score.max_new_tokens: no answer can be exact, because each completion has more than {longest} tokens "
                f"(the shortest has {shortest}); raise it, or set score.measure to loss"
            )

    def _choice(self, rows: Rows, adapter: LoraFile | None) -> Scores:
        candidates = [row.model_copy(update={"completion": choice}) for row in rows.rows for choice in rows.choices]
        log_probs = np.reshape(self._log_probs(candidates, adapter).log_probs, (len(rows.rows), len(rows.choices)))
        predicted = [rows.choices[index] for index in log_probs.argmax(axis=1)]
        true = [row.completion for row in rows.rows]
        right = sum(a == b for a, b in zip(predicted, true, strict=True))
        return {"accuracy": right / len(true), "macro_f1": macro_f1(true, predicted)}


def macro_f1(true: Sequence[str], predicted: Sequence[str]) -> float:
    """The mean over the true labels of F1 = 2 TP / (2 TP + FP + FN)."""
    pairs = list(zip(true, predicted, strict=True))
    labels = sorted(set(true))
    scores = []
    for label in labels:
        both = sum(t == label == p for t, p in pairs)
        either = sum((t == label) + (p == label) for t, p in pairs)
        scores.append(2 * both / either)
    return sum(scores) / len(labels)
