"""The parameters of a request, checked for all routes: what a route does not know is an error, never ignored."""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import get_args, get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant

from coordinator.errors import Invalid, QueryTooLong
from shared.text.unsafe import escape_unsafe, one_line

MAX_QUERY_BYTES = 8 << 10
"""Longest query of a request, in bytes. Valid ones have some hundred; the time to parse one grows with it."""
_MAX_NAME = 40
"""Most characters of a parameter's name in a reply."""
_HINTS = 10
"""Unknown parameters for which a similar known one is looked for: as many as a reply names. The search is slow."""


def check_query_length(query: bytes) -> None:
    """Raise QueryTooLong. Nothing of the query is parsed before."""
    if len(query) > MAX_QUERY_BYTES:
        raise QueryTooLong(len(query), MAX_QUERY_BYTES)


def check_parameters(request: Request, known: Mapping[str, bool]) -> None:
    """Raise Invalid for unknown or repeated query parameters, and for control characters in paths and queries.

    known: the names of the query's parameters, and whether each may be repeated.
    """
    given = request.query_params.multi_items()
    texts = [*request.path_params.items(), *given]
    unprintable = dict.fromkeys(name for name, text in texts if escape_unsafe(str(text)) != str(text))
    _refuse((name, "it has a control character") for name in unprintable)
    if not given:
        return
    counts = Counter(name for name, _ in given)
    _refuse(_misused(counts, known))


def _refuse(wrong: Iterable[tuple[str, str]]) -> None:
    """Raise Invalid with pairs of name and problem, if there are any."""
    problems = [(one_line(name, _MAX_NAME), message) for name, message in wrong]
    if problems:
        raise Invalid(*problems)


def _misused(counts: Counter[str], known: Mapping[str, bool]) -> Iterator[tuple[str, str]]:
    for number, name in enumerate(name for name in counts if name not in known):
        yield name, _unknown(name, known) if number < _HINTS else "unknown"
    for name, n_times in counts.items():
        if n_times > 1 and known.get(name) is False:
            yield name, "it is given more than once"


def query_parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """The names of a route's query parameters, and whether each may be repeated."""
    for field in dependant.query_params:
        yield field.alias, _is_list(field.field_info.annotation)
    for each in dependant.dependencies:
        yield from query_parameters(each)


def _is_list(annotation: object) -> bool:
    return get_origin(annotation) is list or any(_is_list(each) for each in get_args(annotation))


def _unknown(name: str, known: Mapping[str, bool]) -> str:
    if not known:
        return "unknown; no query parameter is known here"
    similar = difflib.get_close_matches(name[:_MAX_NAME], known, 1)
    hint = f"did you mean {similar[0]}? " if similar else ""
    return f"unknown; {hint}Known here: {', '.join(sorted(known))}"
