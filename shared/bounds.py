"""Bounds of what another party sends: texts that no terminal obeys, numbers that every database stores.

``Bounded`` is the base class of everything that comes in: requests, campaign files, assignments. It looks at the whole
input before pydantic does, so no field of no message, and no parameter of a plug-in, can be forgotten.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, islice
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from shared.text.unsafe import UNSAFE_CHARACTER, escape
from shared.validation.described import Described
from shared.validation.errors import again, problem

MAX_INT = (1 << 63) - 1
"""Largest whole number of a message: the largest of a database's big-integer column, and of many JSON readers."""
MAX_COUNT = (1 << 31) - 1
"""Largest count of rows, rounds, steps and the like: the largest of PostgreSQL's integer columns."""
TEN_YEARS_S = 3650 * 86400.0
"""Longest time limit, in seconds. Dates beyond it overflow."""
MAX_DEPTH = 40
"""Deepest nesting of an input."""
MAX_NAMES = 1000
"""Most names of one mapping of an input."""
MAX_VALUES = 100_000
"""Most values of an input, at all depths together."""
MAX_PROBLEMS = 20
"""Most problems of an input that are named. To name thousands takes longer than to read it."""

_WHOLE_NUMBER = TypeAdapter(int)


def _unsafe_problem(text: str, keep: str = "") -> str | None:
    """What is wrong with a text; None if nothing is."""
    # a printable text has no unsafe character, and this is the faster question
    if text.isprintable() or (found := _unsafe_except(keep).search(text)) is None:
        return None
    name = "a line break" if found[0] in "\r\n" else f"the control character {escape(found[0])}"
    return f"character {found.start() + 1} is {name}, which is not accepted here"


@cache
def _unsafe_except(keep: str) -> re.Pattern[str]:
    return re.compile(f"(?![{re.escape(keep)}]){UNSAFE_CHARACTER.pattern}") if keep else UNSAFE_CHARACTER


def _line(text: str) -> str:
    if reason := _unsafe_problem(text):
        raise PydanticCustomError("unsafe_text", "{reason}", {"reason": reason})
    return text


Line = Annotated[str, AfterValidator(_line)]
"""A text of one line, without control characters."""
Whole = Annotated[int, Field(strict=True)]
"""A whole number: neither ``true`` nor ``"7"``."""
Count = Annotated[Whole, Field(ge=0, le=MAX_COUNT)]
"""A number of rows, steps, rounds or the like."""
Bytes = Annotated[Whole, Field(ge=0, le=MAX_INT)]
"""A number of bytes."""
Seconds = Annotated[float, Field(gt=0, le=TEN_YEARS_S)]
"""A time limit, in seconds."""


class Bounded(Described):
    """Base class of what another party sends.

    Refuses control characters in every text, whole numbers beyond 64 bits, and inputs that are nested too deeply or
    have too many values. In a field that holds numbers, alone or in lists and tables, it refuses true and false, and
    in one that holds whole numbers, texts. Names the first MAX_PROBLEMS problems; for that many, and for a size, it
    reads the input no further.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    _keep: ClassVar[str] = ""
    """Control characters that texts may have; fields of type ``Line`` may not."""

    @model_validator(mode="wrap")
    @classmethod
    def _bounded(cls, raw: Any, handler: ModelWrapValidatorHandler[Self], _info: ValidationInfo) -> Self:
        if not isinstance(raw, dict):
            return handler(raw)
        inspection = _Inspection(raw, cls._keep)
        errors = inspection.problems
        if inspection.is_over:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        own = {name: raw[name] for name in cls.model_fields if name in raw}
        for name, value in own.items():
            found = _wrong_numbers([cls.model_fields[name].annotation], value, (name,))
            errors += islice(found, MAX_PROBLEMS - len(errors))
        known = {each["loc"] for each in errors}
        try:
            checked = handler(raw)
        except ValidationError as error:
            errors += [again(each) for each in _others(error, known)[: max(0, MAX_PROBLEMS - len(errors))]]
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return checked


def _others(error: ValidationError, known: set[tuple[int | str, ...]]) -> list[ErrorDetails]:
    return [each for each in error.errors(include_url=False) if each["loc"] not in known]


class _Inspection:
    """Finds what is wrong with the texts, whole numbers and size of an input, at any depth.

    problems: the first MAX_PROBLEMS. is_over: whether it stopped before the end of the input.
    """

    def __init__(self, raw: dict[Any, Any], keep: str) -> None:
        self.problems: list[InitErrorDetails] = []
        self.is_over = False
        self._n_values = 0
        self._keep = keep
        self._inspect(raw, ())

    def _inspect(self, values: dict[Any, Any] | list[Any], loc: tuple[str | int, ...]) -> None:
        if reason := self._size_problem(values, loc):
            self._add(loc[:3], reason)
            self.is_over = True
        for key, item in values.items() if isinstance(values, dict) else enumerate(values):
            if self.is_over:
                return
            if isinstance(key, str) and (reason := _unsafe_problem(key)):
                self._add(loc, f"a name: {reason}")
            elif isinstance(item, str):
                if reason := _unsafe_problem(item, self._keep):
                    self._add((*loc, _part(key)), reason)
            elif isinstance(item, dict | list):
                self._inspect(item, (*loc, _part(key)))
            elif isinstance(item, int) and not -MAX_INT <= item <= MAX_INT:
                self._add((*loc, _part(key)), "this number is too large: at most 9,223,372,036,854,775,807 (2^63 - 1)")

    def _size_problem(self, values: dict[Any, Any] | list[Any], loc: tuple[str | int, ...]) -> str | None:
        """Why the input is too large, as far as these values show it; None if they do not."""
        self._n_values += len(values)
        if len(loc) > MAX_DEPTH:
            return f"nested more than {MAX_DEPTH} levels deep"
        if isinstance(values, dict) and len(values) > MAX_NAMES:
            return f"{len(values):,} names; at most {MAX_NAMES:,} are accepted"
        return f"more than {MAX_VALUES:,} values in all" if self._n_values > MAX_VALUES else None

    def _add(self, loc: tuple[str | int, ...], message: str) -> None:
        self.problems.append(problem(loc, message, None))
        self.is_over = len(self.problems) == MAX_PROBLEMS


def _part(key: object) -> str | int:
    """A key, or the position in a list, as a part of a place."""
    return key if isinstance(key, str | int) else str(key)


def _wrong_numbers(annotations: Sequence[Any], value: Any, loc: tuple[str | int, ...]) -> Iterator[InitErrorDetails]:
    """What pydantic would convert to a number in a value of one of these annotations, at any depth."""
    options = list(chain.from_iterable(map(_alternatives, annotations)))
    if not options or len(loc) > MAX_DEPTH:
        return
    if isinstance(value, bool) and bool not in options and (int in options or float in options):
        yield problem(loc, "Input should be a number, not true or false", value)
    elif isinstance(value, str) and _becomes_number(value, options):
        yield problem(loc, "Input should be a whole number, without quotes", value)
    elif isinstance(value, dict):
        values = [get_args(each)[1] for each in options if _holds(each, Mapping) and len(get_args(each)) == 2]
        for key, item in value.items():
            yield from _wrong_numbers(values, item, (*loc, str(key)))
    elif isinstance(value, list | tuple):
        items = [
            arg for each in options if _holds(each, Collection) and not _holds(each, Mapping) for arg in get_args(each)
        ]
        for position, item in enumerate(value):
            yield from _wrong_numbers(items, item, (*loc, position))


def _becomes_number(text: str, options: Collection[Any]) -> bool:
    """Whether pydantic makes a whole number of a text, such as ``"-7"``, ``"7.0"`` or ``" 1_000"``, for these types."""
    if int not in options or any(each in options for each in (str, Any, object)):
        return False
    if any(get_origin(each) is Literal and text in get_args(each) for each in options):
        return False
    try:
        _WHOLE_NUMBER.validate_python(text)
    except ValidationError:
        return False
    return True


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The types of an annotation, each alone; containers whole."""
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        yield from chain.from_iterable(map(_alternatives, get_args(annotation)))
    else:
        yield annotation


def _holds(annotation: Any, sort: type) -> bool:
    """Whether an annotation is a container of this sort."""
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, sort)
