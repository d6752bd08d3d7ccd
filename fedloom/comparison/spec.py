"""The comparison file: a campaign, the partition of its data, what scores it, and hyperparameters to choose from."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from fedloom.comparison.criterion import METRICS_OF, Measure, is_on_rows
from fedloom.comparison.planning.grid import GridSection
from fedloom.comparison.tasks.section import TasksSection
from fedloom.errors import PartitionError
from fedloom.simulation.partition_plan import PartitionKind, PartitionPlan
from shared.bounds import Line
from shared.campaign.file import read_file
from shared.campaign.sections import Section
from shared.campaign.spec import Name


class PartitionSection(Section):
    """How the rows are split among the clients, as in `fedloom simulate`."""

    kind: PartitionKind = PartitionKind.IID
    """`iid`, `dirichlet`, `quantity`, `key` or `domain`."""
    by: str | None = None
    """Column of the data that holds the label, key or domain."""
    alpha: float | None = None
    """Concentration of the Dirichlet distribution."""

    @model_validator(mode="after")
    def _is_a_plan(self) -> Self:
        try:
            self.plan()
        except PartitionError as error:
            raise ValueError(str(error)) from error
        return self

    def plan(self) -> PartitionPlan:
        """The partition as the simulation takes it."""
        return PartitionPlan(self.kind, self.by, self.alpha)


class ScoreSection(Section):
    """How a model is scored, on rows with the columns of the training data."""

    measure: Measure = "loss"
    """`loss`: the loss on the completions. `exact`: the share of answers that equal the completion exactly. `choice`:
    whether the right completion is the likeliest of all completions in the file, as accuracy and macro-F1."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 32
    """Longest answer in tokens, for `exact`."""


class ComparisonSpec(Section):
    """One comparison. Paths are relative to its file."""

    name: Name
    """Name of the comparison."""
    campaign: Path = Path("campaign.yaml")
    """The campaign that every algorithm runs; its `algorithm` is ignored."""
    settings: Path = Path("agent.toml")
    """Settings of every client, with the data to split."""
    clients: Annotated[int, Field(ge=2)]
    """Number of clients that the data is split among."""
    partition: PartitionSection = PartitionSection()
    validation: Path | None = None
    """Rows that hyperparameters are chosen on. No client trains on them. Not needed where `choose` is of a task."""
    test: Path | None = None
    """Rows for the final table. Nothing is chosen on them. Not needed beside `evaluation`."""
    score: ScoreSection = ScoreSection()
    evaluation: TasksSection | None = None
    """Evaluation tasks for the final table."""
    choose: Line | None = None
    """What hyperparameters are chosen by: a metric on the validation rows (`loss`, `accuracy`, `macro_f1`), or
    `TASK.METRIC` of an evaluation task or a mean over tasks, on a half of the items that the table has nothing of. By
    default by `score.measure`."""
    rank: Line | None = None
    """What the table is ordered by, and the star given for: a metric on the test rows, `TASK.METRIC` of an evaluation
    task or a mean over tasks. By default `score.measure` on the test rows, or else the first metric of the tasks."""
    grid: GridSection = GridSection()

    @model_validator(mode="after")
    def _has_rows(self) -> Self:
        if self.test is None and self.evaluation is None:
            message = "test: this field is needed without evaluation"
            raise ValueError(message)
        if self.validation is None and (self.choose is None or is_on_rows(self.choose)):
            message = "validation: this field is needed, unless choose names a metric of evaluation"
            raise ValueError(message)
        if self.test is None and self.rank is not None and is_on_rows(self.rank):
            message = f"rank: {self.rank} is measured on test rows; give test, or a metric of evaluation"
            raise ValueError(message)
        for field, metric in (("choose", self.choose), ("rank", self.rank)):
            if metric is not None and is_on_rows(metric) and not any(metric in METRICS_OF[m] for m in self.measures):
                measures = " or ".join(measure for measure, metrics in METRICS_OF.items() if metric in metrics)
                message = f"{field}: {metric} needs score.measure {measures}"
                raise ValueError(message)
        return self

    @property
    def measures(self) -> list[Measure]:
        """What rows are scored by: the measure, and the loss where something is chosen or ranked by it."""
        by_loss: list[Measure] = ["loss"] if "loss" in (self.choose, self.rank) else []
        return list(dict.fromkeys([self.score.measure, *by_loss]))


def read_comparison(path: Path) -> ComparisonSpec:
    """Read a comparison file and make its paths absolute. Raises OSError and CampaignFileError."""
    spec = read_file(path, ComparisonSpec)
    folder = path.resolve().parent
    named = {name: getattr(spec, name) for name in ("campaign", "settings", "validation", "test")}
    changes: dict[str, Any] = {name: folder / path for name, path in named.items() if path is not None}
    if spec.evaluation is not None:
        changes["evaluation"] = spec.evaluation.relative_to(folder)
    return spec.model_copy(update=changes)
