"""The comparison's file: a campaign, how its data is shared out, what is scored, and the rates to choose from."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedloom.errors import PartitionError
from fedloom.simulation.plan import Kind, Plan
from shared.campaign import Name, Section
from shared.campaign_file import read_file

Values = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
Measure = Literal["loss", "exact", "choice"]


class PartitionSection(Section):
    """How the rows are shared out among the clients, as `fedloom simulate` does it."""

    kind: Kind = Kind.IID
    """`iid`, `dirichlet`, `quantity`, `key` or `domain`."""
    by: str | None = None
    """The data's column of the label, key or domain."""
    alpha: float | None = None
    """Concentration of the Dirichlet distribution."""

    @model_validator(mode="after")
    def _is_a_plan(self) -> Self:
        try:
            self.plan()
        except PartitionError as error:
            raise ValueError(str(error)) from error
        return self

    def plan(self) -> Plan:
        """The same for the simulation."""
        return Plan(self.kind, self.by, self.alpha)


class ScoreSection(Section):
    """What a model is worth, on rows with the columns of the training data."""

    measure: Measure = "loss"
    """`loss` on the completions; `exact`, the share of answers that are right to the letter; `choice`, whether the
    right one of all completions in the file is the likeliest: accuracy and macro-F1."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 32
    """Longest answer for `exact`."""


class GridSection(Section):
    """Values to choose from, by the score on the validation rows with the first seed. Every combination is tried."""

    learning_rate: Values | None = None
    """The clients' learning rates; left out, the campaign's own. A minimum of the campaign keeps its proportion."""
    params: dict[str, Values] = Field(default_factory=lambda: {"eta": [1e-3, 3e-3, 1e-2]})
    """Values of algorithms' parameters: under `eta` for each algorithm that has one of that name, under `fedadam.eta`
    for that algorithm alone."""

    def params_of(self, algorithm: str, fields: Collection[str]) -> dict[str, Values]:
        """The values for one algorithm's parameters, *fields*, by name in sorted order."""
        found = {name: self.params.get(f"{algorithm}.{name}", self.params.get(name)) for name in sorted(fields)}
        return {name: values for name, values in found.items() if values is not None}


class ComparisonSpec(Section):
    """One comparison. Paths are relative to its file."""

    name: Name
    """What people call it."""
    campaign: Path = Path("campaign.yaml")
    """The campaign that every algorithm runs; its `algorithm` is left aside."""
    settings: Path = Path("agent.toml")
    """Settings of every client, with the data to share out."""
    clients: Annotated[int, Field(ge=2)]
    """How many clients share the data."""
    partition: PartitionSection = PartitionSection()
    validation: Path
    """Rows to choose rates by. No client trains on them."""
    test: Path
    """Rows for the table at the end. Nothing is chosen by them."""
    score: ScoreSection = ScoreSection()
    grid: GridSection = GridSection()


def read_comparison(path: Path) -> ComparisonSpec:
    """The comparison in a file, with paths made absolute. Raises OSError and CampaignFileError."""
    spec = read_file(path, ComparisonSpec)
    folder = path.resolve().parent
    files = {name: folder / getattr(spec, name) for name in ("campaign", "settings", "validation", "test")}
    return spec.model_copy(update=files)
