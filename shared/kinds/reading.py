"""Reads the section of a campaign's kind, whose model is known only once the kind is."""

from collections.abc import Collection, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

from shared import kinds
from shared.plugins import PluginUnavailable

_KNOWN_TYPES = frozenset(get_args(ErrorType))
"""The errors that pydantic can raise again by their type; a kind's validators may raise others."""


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
        return {}, [_problem("kind", str(error), name)]
    if name in fields:
        return {}, [
            _problem("kind", f"the kind of training {name!r} has the name of another field of a campaign", name)
        ]
    has_section = bool(kind.section.model_fields)
    errors: list[InitErrorDetails] = []
    for field in campaign.keys() - fields:
        if not isinstance(field, str):
            continue  # pydantic's own error says it
        if field in kinds.names() and field != name:
            message = f"only a campaign of kind {field} has it; this one is of kind {name}"
            errors.append(_problem(field, message, campaign[field]))
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


def again(detail: ErrorDetails, *within: str) -> InitErrorDetails:
    """An error that was reported before, in a form to be raised again, for the section *within*."""
    loc = (*within, *detail["loc"])
    if detail["type"] == "value_error" or detail["type"] not in _KNOWN_TYPES:
        return InitErrorDetails(type=_error(detail["msg"]), loc=loc, input=detail["input"])
    return InitErrorDetails(type=detail["type"], loc=loc, input=detail["input"], ctx=detail.get("ctx", {}))


def _problem(field: str, message: str, value: Any) -> InitErrorDetails:
    return InitErrorDetails(type=_error(message), loc=(field,), input=value)


def _error(message: str) -> PydanticCustomError:
    return PydanticCustomError("value_error", "{reason}", {"reason": message})
