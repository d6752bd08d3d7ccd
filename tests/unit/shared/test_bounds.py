"""Bounds of what comes in: no message, no section and no plug-in can forget them."""

import json
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator

from agent.orders.jobs import JobBase
from shared import wire
from shared.bounds import MAX_INT, MAX_NAMES, MAX_PROBLEMS, MAX_VALUES, Line
from shared.campaign.sections import Section
from shared.campaign.spec import CampaignSpec
from shared.text.unsafe import escape_unsafe, one_line
from shared.wire.base import Request
from shared.wire.enrollments import TokenCreate
from shared.wire.tasks.leases import Failure, FailureKind, Progress

UNSAFE = [
    "\x00",
    "\x07",
    "\n",
    "\r",
    "\x1b[2J",
    "\x7f",
    "\x85",
    "\x9b31m",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u2066",
    "\ud800",
]
HARMLESS = ["é", "漢字", "🙂", "שלום", "a\u200db", "[/b]", "{x}", "  ", "'; DROP TABLE agents; --"]


def problems(model: type[BaseModel], value: Any) -> dict[tuple[Any, ...], str]:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(value)
    return {each["loc"]: each["msg"] for each in refused.value.errors()}


class _Further(Request):
    """A message that nobody has written yet. It declares no bounds of its own."""

    text: str = ""
    number: int = 0
    share: float = 0
    flag: bool = False
    either: int | str = 0
    deep: dict[str, Any] = Field(default_factory=dict)
    some: list[int] = Field(default_factory=list)
    shares: dict[str, float] = Field(default_factory=dict)
    table: dict[str, list[int | None]] | None = None
    size: int | Literal["auto", "2"] = 0
    pair: tuple[int, int] | None = None


class _Parameters(Section):
    """The parameters of a plug-in from outside."""

    text: str = ""
    name: Line = "x"
    strength: float = 1.0
    n: Annotated[int, Field(ge=0)] = 0


@pytest.mark.parametrize("unsafe", UNSAFE)
def test_a_control_character_is_refused_at_any_depth_of_any_message(unsafe: str) -> None:
    text = f"a{unsafe}b"
    for value in ({"text": text}, {"deep": {"x": [1, {"y": text}]}}, {"deep": {text: 1}}, {"either": text}):
        (reason,) = problems(_Further, value).values()
        assert "not accepted here" in reason
        assert unsafe not in reason
    assert "character 2" in problems(Failure, {"kind": "data", "message": text})[("message",)]


@pytest.mark.parametrize("text", HARMLESS)
def test_every_other_text_is_accepted(text: str) -> None:
    assert _Further(text=text, deep={text: [text]}).text == text
    assert escape_unsafe(text) == text


def test_a_section_may_have_texts_of_several_lines_but_not_where_a_line_is_wanted() -> None:
    assert _Parameters(text="a\n\tb").text == "a\n\tb"
    assert problems(_Parameters, {"text": "a\rb", "name": "a\nb"}).keys() == {("text",), ("name",)}


@pytest.mark.parametrize("value", [True, False, "7", 1.5, 10**400, -(10**400), MAX_INT + 1, None, [], "∞"])
def test_what_is_no_whole_number_of_64_bits_is_refused(value: object) -> None:
    assert ("number",) in problems(_Further, {"number": value})
    assert ("n",) in problems(_Parameters, {"n": value})
    assert ("done",) in problems(Progress, {"phase": "training", "done": value})


@pytest.mark.parametrize("text", ["+7", "-7", "7.0", " 7 ", "1_000", "７", "7\t", "0x7"])
def test_no_text_is_a_whole_number_in_any_field_or_container(text: str) -> None:
    for model, value, place in (
        (_Further, {"number": text}, ("number",)),
        (_Parameters, {"n": text}, ("n",)),
        (_Further, {"some": [1, text]}, ("some", 1)),
        (_Further, {"table": {"a": [None, text]}}, ("table", "a", 1)),
        (_Further, {"pair": [1, text]}, ("pair", 1)),
    ):
        assert place in problems(model, value), (model, value)
    assert any(place[0] == "size" for place in problems(_Further, {"size": text}))


@pytest.mark.parametrize("flag", [True, False])
def test_true_is_no_number_in_any_container(flag: bool) -> None:
    assert problems(_Further, {"some": [1, flag], "shares": {"a": flag}}).keys() == {("some", 1), ("shares", "a")}
    assert problems(_Further, {"table": {"a": [flag]}}).keys() == {("table", "a", 0)}


def test_numbers_in_containers_and_words_beside_numbers_are_accepted() -> None:
    made = _Further.model_validate(
        {"some": [-7], "shares": {"a": 1, "b": 0.5}, "table": {"a": [None, 3]}, "size": "2", "pair": [1, 2]}
    )
    assert (made.some, made.table, made.size, made.pair) == ([-7], {"a": [None, 3]}, "2", (1, 2))


def test_true_is_no_number_and_a_flag_is_no_problem() -> None:
    assert problems(_Further, {"share": True}).keys() == {("share",)}
    assert _Further(flag=True, either="7", share=2).share == 2.0
    assert problems(_Further, {"deep": {"n": [2**63]}}).keys() == {("deep", "n", 0)}


def test_all_problems_are_named_once_each_with_the_places_of_the_fields_own() -> None:
    found = problems(
        TokenCreate, {"labels": {"a": "\x00", "b c": "x"}, "note": "n" * 300, "expires_in_s": True, "x": 1}
    )
    assert found.keys() == {("labels", "a"), ("labels", "b c", "[key]"), ("note",), ("expires_in_s",), ("x",)}


def test_an_input_that_is_nested_too_deeply_is_refused() -> None:
    value: Any = 1
    for _ in range(500):
        value = [value]
    (reason,) = problems(_Further, {"deep": {"x": value}}).values()
    assert "levels deep" in reason


@pytest.mark.parametrize(
    ("deep", "says"),
    [
        ({"x": list(range(MAX_VALUES))}, "more than 100,000 values in all"),
        ({"x": [[[]]] * (MAX_VALUES // 2)}, "more than 100,000 values in all"),
        ({"x": [{f"n{i}": 1 for i in range(MAX_NAMES + 1)}]}, "1,001 names; at most 1,000 are accepted"),
    ],
)
def test_an_input_with_too_many_values_is_refused_with_one_problem(deep: Any, says: str) -> None:
    assert list(problems(_Further, {"deep": deep, "number": "x"}).values()) == [says]
    assert _Further(deep={"x": list(range(MAX_VALUES - 10))})


@pytest.mark.parametrize(
    "value",
    [
        {"deep": {"x": ["\x00"] * 90_000}},
        {"deep": {"x": [2**70] * 90_000}},
        {"deep": {f"\x00{i}": 1 for i in range(MAX_NAMES)}},
        {f"unknown{i}": 1 for i in range(MAX_NAMES)},
        {"deep": {"x": ["\x00"] * 15}, **{f"unknown{i}": 1 for i in range(50)}},
    ],
    ids=["texts", "numbers", "names", "fields", "both"],
)
def test_no_more_than_the_first_problems_are_named(value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        _Further.model_validate(value)
    assert refused.value.error_count() == MAX_PROBLEMS


def test_an_input_with_many_problems_is_not_read_to_its_end() -> None:
    class Watched(_Parameters):
        @field_validator("n", mode="before")
        @classmethod
        def _read(cls, value: object) -> object:
            seen.append(value)
            return value

    seen: list[object] = []
    problems(Watched, {"text": "\x00", "n": 1})
    problems(Watched, {"n": 2} | {f"x{i}": "\x00" for i in range(MAX_PROBLEMS)})
    assert seen == [1]


def test_a_campaign_names_no_more_than_the_first_unknown_fields_in_their_order() -> None:
    found = problems(CampaignSpec, {f"unknown{i}": 1 for i in range(MAX_NAMES)})
    assert [place for (place, *_) in found if str(place).startswith("unknown")][-1] == f"unknown{MAX_PROBLEMS - 1}"
    assert len(found) <= 2 * MAX_PROBLEMS


@given(st.text(alphabet=st.characters(), max_size=200), st.integers(1, 50))
def test_a_line_is_made_of_any_text(text: str, longest: int) -> None:
    line = one_line(text, longest)
    assert len(line) <= longest
    assert TypeAdapter(Line).validate_python(line) == line
    json.dumps(Failure.of(FailureKind.DATA, text).model_dump(mode="json")).encode()


def test_every_message_that_comes_in_is_bounded() -> None:
    """Whole numbers have a largest value, and texts a length or a pattern; ``Request`` refuses the rest."""
    unbounded = [
        f"{model.__name__}.{place}" for model in _incoming() for place, schema in _leaves(model) if not _bounded(schema)
    ]
    assert unbounded == []


def _incoming() -> Iterator[type[BaseModel]]:
    for module in iter_modules(wire.__path__):
        import_module(f"{wire.__name__}.{module.name}")
    pending: list[type[BaseModel]] = [Request, JobBase]
    while pending:
        model = pending.pop()
        pending += model.__subclasses__()
        if model.__module__.startswith("shared."):
            yield model


def _leaves(model: type[BaseModel]) -> Iterator[tuple[str, dict[str, Any]]]:
    schema = model.model_json_schema()
    pending = [(name, each) for name, each in schema.get("properties", {}).items()]
    while pending:
        place, each = pending.pop()
        if "$ref" in each:
            continue  # sections have their own bounds, and enumerations are finite
        parts = [*each.get("anyOf", []), *([each["items"]] if isinstance(each.get("items"), dict) else [])]
        pending += [(place, part) for part in parts]
        if each.get("type") in ("integer", "string"):
            yield place, each


def _bounded(schema: dict[str, Any]) -> bool:
    if "enum" in schema or "const" in schema or schema.get("format") in ("date", "date-time"):
        return True
    if schema["type"] == "integer":
        return "maximum" in schema or "exclusiveMaximum" in schema
    return "maxLength" in schema or "pattern" in schema
