"""Describes the allowed values of a JSON schema in plain words."""

import json
import re
from typing import Any

from pydantic import TypeAdapter

from shared.bounds import MAX_COUNT
from shared.campaign.evaluation import BenchmarkName
from shared.campaign.spec import Name
from shared.metrics import MetricName

Schema = dict[str, Any]

_NAMES = {
    TypeAdapter(name).json_schema()["pattern"]: words
    for name, words in ((Name, "name"), (MetricName, "name of a metric"), (BenchmarkName, "name, in lower case"))
}
"""What texts of a pattern are, in words."""


def describe(schema: Schema, definitions: Schema) -> str:
    """The allowed values of a schema. definitions: the schemas that its references name."""
    if "$ref" in schema:
        return describe(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        branches = (describe(branch, definitions) for branch in schema["anyOf"] if branch.get("type") != "null")
        return ", or ".join(branches)
    choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if choices:
        *others, last = (f"`{yaml_literal(choice)}`" for choice in choices)
        return f"{', '.join(others)} or {last}" if others else last
    match schema.get("type"):
        case "integer":
            return _whole_number(schema)
        case "number":
            return _bounded("number", schema)
        case "boolean":
            return "`true` or `false`"
        case "string":
            return _text(schema)
        case "array":
            return _list(schema, definitions)
        case "object":
            return _pairs(schema, definitions)
    return "anything"


def yaml_literal(value: object) -> str:
    """A value as it is written in a YAML file."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else re.sub(r"e([+-])0", r"e\1", repr(value))
    return json.dumps(value)


def _whole_number(schema: Schema) -> str:
    inclusive = dict(schema)
    if "exclusiveMinimum" in schema:
        inclusive["minimum"] = inclusive.pop("exclusiveMinimum") + 1
    if "exclusiveMaximum" in schema:
        inclusive["maximum"] = inclusive.pop("exclusiveMaximum") - 1
    if inclusive.get("maximum") == MAX_COUNT:
        del inclusive["maximum"]  # every count has this bound
    return _bounded("whole number", inclusive)


def _bounded(noun: str, schema: Schema, unit: str = "") -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{noun}, {_plain(low)} to {_plain(high)}{unit}"
    bounds = (("at least", low), ("above", above), ("at most", high), ("below", below))
    limits = " and ".join(f"{word} {_plain(bound)}{unit}" for word, bound in bounds if bound is not None)
    return f"{noun}, {limits}" if limits else noun


def _plain(bound: float) -> str:
    return f"{bound:,.0f}" if float(bound).is_integer() else f"{bound:,}"


def _text(schema: Schema) -> str:
    if "pattern" in schema:
        return _NAMES.get(schema["pattern"], f"text of the form `{schema['pattern']}`")
    return _bounded("text", {"minimum": schema.get("minLength"), "maximum": schema.get("maxLength")}, " characters")


def _list(schema: Schema, definitions: Schema) -> str:
    item = describe(schema.get("items", {}), definitions)
    noun = f"list of {item}s" if item.replace(" ", "").isalpha() else f"list, each {item}"
    size = {"minimum": schema.get("minItems"), "maximum": schema.get("maxItems")}
    return _bounded(noun, size)


def _pairs(schema: Schema, definitions: Schema) -> str:
    keys: Schema = schema.get("patternProperties", {})
    for pattern, value in keys.items():
        key = describe({"type": "string", "pattern": pattern}, definitions)
        return f"pairs of {key} and {describe(value, definitions)}"
    return "fields of its own"
