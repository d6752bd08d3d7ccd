"""Errors of pydantic, made or raised again with a place of our own."""

from typing import Any, get_args

from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

_KNOWN_TYPES = frozenset(get_args(ErrorType))
"""The errors that pydantic can raise again by their type; validators may raise others."""


def again(detail: ErrorDetails, *within: str) -> InitErrorDetails:
    """Return an error that was reported before, in a form to be raised again, for the section *within*."""
    loc = (*within, *detail["loc"])
    if detail["type"] == "value_error" or detail["type"] not in _KNOWN_TYPES:
        return InitErrorDetails(type=_error(detail["msg"]), loc=loc, input=detail["input"])
    return InitErrorDetails(type=detail["type"], loc=loc, input=detail["input"], ctx=detail.get("ctx", {}))


def problem(loc: tuple[str | int, ...], message: str, value: Any) -> InitErrorDetails:
    """Return an error with a message of our own."""
    return InitErrorDetails(type=_error(message), loc=loc, input=value)


def _error(message: str) -> PydanticCustomError:
    return PydanticCustomError("value_error", "{reason}", {"reason": message})
