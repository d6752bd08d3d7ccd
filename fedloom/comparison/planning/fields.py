"""Fields of a campaign that a grid may name: what each is, to which methods it applies, and a campaign with its values.

A field is named with its section, as in ``lora.rank`` or ``evaluation.stop.patience``.
"""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

from fedloom.evaluation.nearest import did_you_mean
from shared.campaign.spec import CampaignSpec

_REFUSED = {
    "name": "each run has its own name",
    "kind": "all methods are of the campaign's kind",
    "base": "all methods are scored on one base model; another one needs a comparison of its own",
    "data": "all methods train on the same data, read by the same template; another one needs a comparison of its own",
    "algorithm": "name algorithms with --algorithms, and give values of their parameters in grid.params",
    "start_from": "a comparison starts from a new adapter",
    "start_sha256": "a comparison starts from a new adapter",
    "training.seed": "give the number of seeds with --seeds; nothing is chosen among them",
    "training.epochs": "all methods are compared by steps; give values of training.steps",
    "training.learning_rate": "give the rates in grid.learning_rate",
    "selection.labels": "simulated clients have the labels that the campaign asks for",
    "deadline": "simulated clients take turns and have no deadlines",
    "retention": "what the coordinator keeps changes no score",
}
"""For each field, or section, that cannot be chosen: why, and what to do."""
_REFUSED |= dict.fromkeys(
    (f"evaluation.{name}" for name in ("suite", "tasks", "tasks_every", "limit", "seed")),
    "trials run no benchmarks at clients; the comparison has an evaluation of its own",
)
_OF_FEDERATION = ("selection", "stragglers", "weighting", "wire")
"""What says how several clients work together: baselines train with one client, and have no use for it."""


def problem_with(name: str, spec: CampaignSpec) -> str | None:
    """Why a grid cannot have values of this field of a campaign; None if it can."""
    parts = name.split(".")
    for size in range(1, len(parts) + 1):
        if reason := _REFUSED.get(".".join(parts[:size])):
            return reason
    model: type[BaseModel] | None = CampaignSpec
    is_optional = False
    for place, part in enumerate(parts):
        if model is None:
            return f"{'.'.join(parts[:place])} is a value, and has no fields"
        if place and value_of(spec, ".".join(parts[:place])) is None:
            return f"the campaign has no {'.'.join(parts[:place])}; add it to the campaign's file, or give values of it"
        if part not in model.model_fields:
            within = f" in {'.'.join(parts[:place])}" if place else ""
            known = [each for each in model.model_fields if ".".join((*parts[:place], each)) not in _REFUSED]
            return "unknown field" + (did_you_mean(part, known) or f"; known{within} are {', '.join(known)}")
        model, is_optional = _section(model.model_fields[part].annotation)
    if model is not None and not is_optional:
        return f"is a section; give values of its fields, such as {name}.{next(iter(model.model_fields))}"
    return None


def applies_to_baselines(name: str) -> bool:
    """Whether a field means something to a campaign of one client."""
    return name.partition(".")[0] not in _OF_FEDERATION


def with_fields(spec: CampaignSpec, values: Mapping[str, Any]) -> CampaignSpec:
    """The campaign with these values, validated as a whole. Raises ValidationError.

    values: by field, of which ``problem_with`` knows no problem.
    """
    if not values:
        return spec
    # without what is not given in the file: a default may follow from another field
    content = spec.model_dump(exclude_unset=True)
    for name, value in values.items():
        *sections, last = name.split(".")
        section = content
        for part in sections:
            section = section.setdefault(part, {})
        section[last] = value
    return CampaignSpec.model_validate(content)


def value_of(spec: CampaignSpec, name: str) -> Any:
    """The value of a field, as JSON would have it. None in a section that the campaign lacks."""
    found: Any = spec.model_dump(mode="json")
    for part in name.split("."):
        found = found[part] if found is not None else None
    return found


def _section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The model of a field that is a section, and whether it may be null; None of a field that is a value."""
    options = get_args(annotation) or (annotation,)
    found = [each for each in options if isinstance(each, type) and issubclass(each, BaseModel)]
    return (found[0] if found else None), type(None) in options
