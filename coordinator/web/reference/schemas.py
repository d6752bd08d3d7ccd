"""JSON Schemas in words, as HTML with links between them."""

from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any

from shared.bounds import MAX_INT

_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {} items",
    "pattern": "matching <code>{}</code>",
    "format": "{}",
}


_NUMBERS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def make_integer_bounds_exact(node: Any) -> None:
    """Make the bounds of all integers in a document integers again: FastAPI keeps bounds as floats.

    A float near 2^63 stands for MAX_INT, which no bound of an integer exceeds.
    """
    if isinstance(node, list):
        for each in node:
            make_integer_bounds_exact(each)
    elif isinstance(node, dict):
        if node.get("type") == "integer":
            node.update({key: min(int(node[key]), MAX_INT) for key in _NUMBERS if key in node})
        for each in node.values():
            make_integer_bounds_exact(each)


def type_in_words(schema: Mapping[str, Any]) -> str:
    """What a schema allows."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{escape(name)}">{escape(name)}</a>'
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(map(type_in_words, schema[key])))
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        kind = f"list of {type_in_words(schema.get('items', {}))}"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        kind = f"object of {type_in_words(schema['additionalProperties'])}"
    bounds = [words.format(escape(_value(schema[key]))) for key, words in _BOUNDS.items() if key in schema]
    return ", ".join([kind, *bounds])


def _value(bound: Any) -> str:
    """A bound in figures; a whole number has no decimals."""
    return str(int(bound) if isinstance(bound, float) and bound.is_integer() else bound)


def fields_of(schema: Mapping[str, Any], inline: Callable[[str], str]) -> Iterator[tuple[str, str, str]]:
    """Name, value and meaning of each field of an object. inline: turns a description into HTML."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        optional = "" if name in required else " (optional)"
        yield f"<code>{escape(name)}</code>{optional}", type_in_words(field), inline(field.get("description", ""))
