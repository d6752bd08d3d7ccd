"""Reads the section of a campaign's kind, whose model is known only once the kind is."""

from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails

from shared import kinds
from shared.bounds import MAX_PROBLEMS
from shared.plugins import PluginUnavailable
from shared.validation.errors import again, problem


def read_section(
    name: object, campaign: Mapping[Any, Any], fields: Collection[str]
) -> tuple[dict[str, Any], list[InitErrorDetails]]:
    """Read the section of the kind called *name*.

    Args:
        name: the kind's name as the file has it.
        campaign: the campaign's fields as the file has them.
        fields: the fields of every campaign; all others but the kind's section are unknown.

    Returns:
        The section by its name, with its defaults; empty if the kind has no parameters. And all errors.
    """
    if not isinstance(name, str):
        return {}, []  # the field's own error says it
    try:
        kind = kinds.find(name)
    except PluginUnavailable as error:
        return {}, [problem(("kind",), str(error), name)]
    if name in fields:
        return {}, [
            problem(("kind",), f"the kind of training {name!r} has the name of another field of a campaign", name)
        ]
    has_section = bool(kind.section.model_fields)
    errors: list[InitErrorDetails] = []
    for field in islice((each for each in campaign if each not in fields), MAX_PROBLEMS):
        if not isinstance(field, str):
            continue  # pydantic's own error says it
        if field in kinds.names() and field != name:
            message = f"only a campaign of kind {field} has it; this one is of kind {name}"
            errors.append(problem((field,), message, campaign[field]))
        elif field != name or not has_section:
            errors.append(InitErrorDetails(type="extra_forbidden", loc=(field,), input=campaign[field]))
    if not has_section:
        return {}, errors
    params = campaign.get(name, {})
    try:
        section = kind.section.model_validate(params.model_dump() if isinstance(params, BaseModel) else params)
    except ValidationError as error:
        return {}, errors + [again(each, name) for each in error.errors(include_url=False)]
    return {name: section.model_dump(mode="json")}, errors
