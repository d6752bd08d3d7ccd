"""The comparison file: a campaign, the partition of its data, what scores it, and hyperparameters to choose from."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fedloom.comparison.tasks.section import TasksSection
from fedloom.errors import PartitionError
from fedloom.simulation.partition_plan import PartitionKind, PartitionPlan
from shared.campaign.file import read_file
from shared.campaign.sections import Section
from shared.campaign.spec import Name

Values = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
Measure = Literal["loss", "exact", "choice"]


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


class GridSection(Section):
    """Values to choose from, by the score on the validation rows with the first seed. Every combination is tried."""

    learning_rate: Values | None = None
    """The clients' learning rates; by default the campaign's. `training.min_learning_rate` is scaled in proportion."""
    params: dict[str, Values] = Field(default_factory=lambda: {"eta": [1e-3, 3e-3, 1e-2]})
    """Values of algorithm parameters. `eta` applies to every algorithm with a parameter of that name, `fedadam.eta` to
    that algorithm alone."""

    def params_of(self, algorithm: str, fields: Collection[str]) -> dict[str, Values]:
        """Values for the parameters *fields* of one algorithm, by name in sorted order."""
        by_name = {name: self.params.get(f"{algorithm}.{name}", self.params.get(name)) for name in sorted(fields)}
        return {name: values for name, values in by_name.items() if values is not None}


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
    validation: Path
    """Rows that hyperparameters are chosen on. No client trains on them."""
    test: Path | None = None
    """Rows for the final table. Nothing is chosen on them. Not needed beside `evaluation`."""
    score: ScoreSection = ScoreSection()
    evaluation: TasksSection | None = None
    """Evaluation tasks for the final table. Nothing is chosen by them."""
    grid: GridSection = GridSection()

    @model_validator(mode="after")
    def _has_a_table(self) -> Self:
        if self.test is None and self.evaluation is None:
            message = "test: this field is needed without evaluation"
            raise ValueError(message)
        return self


def read_comparison(path: Path) -> ComparisonSpec:
    """Read a comparison file and make its paths absolute. Raises OSError and CampaignFileError."""
    spec = read_file(path, ComparisonSpec)
    folder = path.resolve().parent
    named = {name: getattr(spec, name) for name in ("campaign", "settings", "validation", "test")}
    changes: dict[str, Any] = {name: folder / path for name, path in named.items() if path is not None}
    if spec.evaluation is not None:
        changes["evaluation"] = spec.evaluation.relative_to(folder)
    return spec.model_copy(update=changes)
