"""The points of a grid: every combination of its values that applies to a method."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from fedloom.comparison.planning.fields import applies_to_baselines
from fedloom.comparison.planning.grid import GridSection
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import Method, MethodKind
from shared import algorithms
from shared.campaign.spec import CampaignSpec


def grid_points(method: Method, spec: CampaignSpec, grid: GridSection) -> Iterator[Hyperparameters]:
    """Every combination of the grid's values that applies to this method."""
    axes = _axes(method, spec, grid)
    for rate in axes.rates:
        for params in product(*axes.params.values()):
            for fields in product(*axes.fields.values()):
                yield Hyperparameters(
                    rate, tuple(zip(axes.params, params, strict=True)), tuple(zip(axes.fields, fields, strict=True))
                )


def count_points(method: Method, spec: CampaignSpec, grid: GridSection) -> int:
    """How many points ``grid_points`` yields."""
    axes = _axes(method, spec, grid)
    numbers = [len(axes.rates), *map(len, axes.params.values()), *map(len, axes.fields.values())]
    return math.prod(numbers)


@dataclass(frozen=True)
class _Axes:
    """Rates, parameters of the algorithm, and fields of the campaign as JSON, each with its values."""

    rates: list[float]
    params: Mapping[str, list[float]]
    fields: Mapping[str, list[str]]


def _axes(method: Method, spec: CampaignSpec, grid: GridSection) -> _Axes:
    if method.kind is MethodKind.BASE:
        return _Axes([spec.training.learning_rate], {}, {})
    fields = {
        name: [json.dumps(value, sort_keys=True) for value in values]
        for name, values in grid.fields.items()
        if method.kind is MethodKind.ALGORITHM or applies_to_baselines(name)
    }
    params = grid.params_of(method.algorithm, algorithms.find(method.algorithm).params.model_fields)
    return _Axes(grid.learning_rate or [spec.training.learning_rate], params, fields)
