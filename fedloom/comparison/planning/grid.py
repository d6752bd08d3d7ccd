"""The section of a comparison file with hyperparameters to choose from."""

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from shared.bounds import Line
from shared.campaign.sections import Section
from shared.text.words import repeated


def _all_differ(values: list[float]) -> list[float]:
    if twice := repeated(map(repr, values)):
        message = f"{twice} is given twice"
        raise ValueError(message)
    return values


Values = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1), AfterValidator(_all_differ)]


class GridSection(Section):
    """Values to choose from, for each row of the table by itself, with the first seed. Every combination is tried."""

    learning_rate: Values | None = None
    """The clients' learning rates; by default the campaign's. `training.min_learning_rate` is scaled in proportion."""
    params: dict[str, Values] = Field(default_factory=lambda: {"eta": [1e-3, 3e-3, 1e-2]})
    """Values of algorithm parameters. `eta` applies to every algorithm with a parameter of that name, `fedadam.eta` to
    that algorithm alone."""
    fields: dict[Line, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    """Values of other fields of the campaign, by the field's name with its section: `lora.rank: [4, 8]`."""

    def params_of(self, algorithm: str, fields: Collection[str]) -> dict[str, list[float]]:
        """Values for the parameters *fields* of one algorithm, by name in sorted order."""
        by_name = {name: self.params.get(f"{algorithm}.{name}", self.params.get(name)) for name in sorted(fields)}
        return {name: values for name, values in by_name.items() if values is not None}
