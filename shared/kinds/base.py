"""The shared half of a kind of training: what coordinator and agents must both know about it.

Each kind is one module with four names; its docstring names the method and cites the paper. ``shared.kinds.find`` loads
it by name. It imports no torch. The agent half, which trains, is found by the same name in ``agent.train.kinds``.

    Section        the kind's section of the campaign file, which has the kind's name
    COMPLETIONS    the completions that a row has beside its prompt, by the names of their columns
    LABELS         further columns that a row has, which hold numbers or true and false
    METRICS        the kind's metrics, with the losses of ``shared.metrics.losses``
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from shared import metrics
from shared.campaign.sections import Section
from shared.metrics import Better, Metric, Origin


class KindSection(Section):
    """Base class of a kind's section in the campaign file."""

    @property
    def reference_is_adapter_zero(self) -> bool:
        """Whether the reference model is the base with global adapter 0, and not the bare base."""
        return False


@dataclass(frozen=True)
class Kind:
    """A loaded kind of training.

    Args:
        name: as campaigns name it.
        summary: the first line of the module's docstring.
        section: the class of the kind's section.
        completions: columns of a row's completions: one, or several that are compared.
        labels: columns of a row's labels.
        own_metrics: the kind's metrics. ``metrics`` has those that every kind has too.
    """

    name: str
    summary: str
    section: type[KindSection]
    completions: tuple[str, ...]
    labels: tuple[str, ...]
    own_metrics: tuple[Metric, ...]

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """All metrics of a campaign of this kind, by name."""
        return metrics.by_name((*self.own_metrics, *metrics.COMMON))

    def metrics_of(self, origin: Origin) -> list[Metric]:
        """The campaign's metrics of one origin."""
        return [metric for metric in self.metrics.values() if metric.origin is origin]

    @property
    def compares(self) -> bool:
        """Whether a row has several completions, which are compared."""
        return len(self.completions) > 1

    def read_section(self, params: Mapping[str, Any]) -> KindSection:
        """The section with these parameters. Raises ValidationError."""
        return self.section.model_validate(params)

    def problem(self) -> str | None:
        """What breaks the interface; None if nothing does."""
        columns = (*self.completions, *self.labels)
        if not self.completions or len(set(columns)) < len(columns):
            return "its COMPLETIONS are empty, or COMPLETIONS and LABELS name a column twice"
        if taken := {"prompt", "input", "messages"} & set(columns):
            return f"its columns may not be called {', '.join(sorted(taken))}"
        try:
            self.section()
        except ValidationError:
            return "its Section has fields without a default"
        try:
            known = self.metrics
        except ValueError as error:
            return f"its METRICS are wrong: {error}"
        loss = known.get(metrics.HELD_OUT_LOSS)
        if loss is None or loss.origin is not Origin.EVALUATION or not loss.weight or loss.better is not Better.LOWER:
            return f"its METRICS lack {metrics.HELD_OUT_LOSS} as an evaluation's, with a weight, lower being better"
        if len(known) > metrics.MAX_METRICS:
            return f"it has {len(known)} metrics, more than {metrics.MAX_METRICS}"
        if any(each.origin is Origin.ROUND for each in self.own_metrics):
            return "its METRICS have one of a round, which only the coordinator measures"
        return next(filter(None, map(metrics.problem, self.own_metrics)), None)
