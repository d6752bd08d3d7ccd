"""Whether the values of a grid fit the campaign, the compared methods and each other: found before anything runs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from fedloom.comparison.planning.fields import problem_with, value_of, with_fields
from fedloom.comparison.planning.grid import GridSection
from fedloom.comparison.planning.held_out import decides_by_evaluation, problem_with_decisions
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import Method, MethodKind
from fedloom.comparison.planning.points import count_points, grid_points
from fedloom.errors import FieldError, Place
from shared import algorithms
from shared.bounds import MAX_PROBLEMS
from shared.campaign.file import messages_of
from shared.campaign.spec import CampaignSpec

MAX_POINTS = 10_000
"""Most combinations of a grid for one method."""


def checked_grid(
    grid: GridSection, spec: CampaignSpec, methods: Sequence[Method], seed: int, n_clients: int
) -> GridSection:
    """The grid with its values as the campaign has them.

    Raises FieldError if a value is none that the campaign can have, contradicts others, or is given twice.
    """
    _raise([*_unknown_params(grid, methods), *_unknown_fields(grid, spec)])
    for method in methods:
        if (n := count_points(method, spec, grid)) > MAX_POINTS:
            _raise([(("grid",), f"{n:,} combinations for {method.name}; at most {MAX_POINTS:,} are tried")])
    _raise([*_misfits(grid, spec, methods, seed, n_clients)])
    fields = _as_read(grid, spec, methods)
    _raise([*_repetitions(fields), *_unused(grid, spec, methods)])
    return grid.model_copy(update={"fields": fields})


def _raise(problems: Sequence[tuple[Place, str]]) -> None:
    if problems:
        raise FieldError(problems[:MAX_PROBLEMS])


def _unknown_params(grid: GridSection, methods: Sequence[Method]) -> Iterator[tuple[Place, str]]:
    compared = {method.algorithm for method in methods}
    own = {(algorithm, name) for algorithm in compared for name in algorithms.find(algorithm).params.model_fields}
    known = {name for _, name in own} | {f"{algorithm}.{name}" for algorithm, name in own}
    known |= set(GridSection().params)  # the default grid fits any algorithm
    for name in grid.params:
        if name not in known:
            yield ("grid", "params", name), f"none of the compared algorithms has the parameter {name}"


def _unknown_fields(grid: GridSection, spec: CampaignSpec) -> Iterator[tuple[Place, str]]:
    for name in grid.fields:
        outer = next((other for other in grid.fields if name.startswith(f"{other}.")), None)
        if outer is not None:
            yield ("grid", "fields", name), f"it is a part of {outer}, which has values too"
        elif reason := problem_with(name, spec):
            yield ("grid", "fields", name), reason


def _misfits(
    grid: GridSection, spec: CampaignSpec, methods: Sequence[Method], seed: int, n_clients: int
) -> Iterator[tuple[Place, str]]:
    """Each problem once, with the first combination that has it."""
    known = set()
    for method in methods:
        for point in grid_points(method, spec, grid):
            for path, message in _errors(point, method, spec, seed, n_clients):
                place, is_its_own = _place(path, point, method, grid)
                if (place, message) not in known:
                    known.add((place, message))
                    yield place, message if is_its_own else f"{message} ({method.name}: {point})"


def _errors(
    point: Hyperparameters, method: Method, spec: CampaignSpec, seed: int, n_clients: int
) -> Iterator[tuple[list[str], str]]:
    """What is wrong with a campaign, each with the path of a field or of a section."""
    try:
        if method.kind is not MethodKind.BASE and (reason := problem_with_decisions(with_fields(spec, point.values))):
            yield ["evaluation"], reason
            return
        campaign = method.campaign(spec, point, seed, n_clients)
    except ValidationError as error:
        for detail in error.errors():
            path = list(map(str, detail["loc"]))
            for message in messages_of(detail, tuple(path), CampaignSpec):
                field, colon, _ = message.partition(": ")  # a section names the field that its rule is of
                is_field = colon and " " not in field
                yield [*path, *field.split(".")] if is_field else path, message
        return
    if campaign is not None and method.kind is MethodKind.ALGORITHM and campaign.selection.minimum > n_clients:
        message = f"{campaign.selection.minimum} is above the number of clients, {n_clients}"
        yield ["selection", "minimum"], message


def _place(path: Sequence[str], point: Hyperparameters, method: Method, grid: GridSection) -> tuple[Place, bool]:
    """Where in the file the cause of an error is: at its own value, at one of its section, or at any; and which."""
    for name, value in point.params if path[:1] == ["params"] else ():
        key = next((each for each in (f"{method.algorithm}.{name}", name) if each in grid.params), None)
        if key is not None and path[1:] == [name]:
            return ("grid", "params", key, grid.params[key].index(value)), True
    names = [name for name, _ in point.fields]
    own = [name for name in names if list(path[: name.count(".") + 1]) == name.split(".")]
    related = [name for name in reversed(names) if name.partition(".")[0] in path[:1]]
    for name in (*own, *related, *reversed(names)):
        return ("grid", "fields", name, grid.fields[name].index(point.values[name])), name in own
    return ("campaign",), False


def _as_read(grid: GridSection, spec: CampaignSpec, methods: Sequence[Method]) -> dict[str, list[Any]]:
    """The values of fields as the campaign has them: 4.0 for 4, and 0.001 for the text 1e-3. All combinations fit."""
    some = next(method for method in methods if method.kind is MethodKind.ALGORITHM)
    values = next(iter(grid_points(some, spec, grid))).values
    return {
        name: [value_of(with_fields(spec, values | {name: value}), name) for value in tried]
        for name, tried in grid.fields.items()
    }


def _repetitions(fields: Mapping[str, Sequence[Any]]) -> Iterator[tuple[Place, str]]:
    for name, values in fields.items():
        for place, value in enumerate(values):
            if value in values[:place]:
                yield ("grid", "fields", name, place), f"{json.dumps(value)} is given twice"


def _unused(grid: GridSection, spec: CampaignSpec, methods: Sequence[Method]) -> Iterator[tuple[Place, str]]:
    """Values of how often held-out rows are evaluated, where no trial evaluates any."""
    names = [name for name in grid.fields if name.partition(".")[0] == "evaluation"]
    points = (point for method in methods for point in grid_points(method, spec, grid))
    if names and not any(decides_by_evaluation(with_fields(spec, point.values)) for point in points):
        message = "no trial evaluates held-out rows, unless evaluation.stop or evaluation.best is set"
        yield ("grid", "fields", names[0]), message
