"""The reference as one HTML page, made from the OpenAPI document. It needs no script and no other file, so that it also
works in closed networks, behind a proxy's prefix and under a strict content policy."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from markdown_it import MarkdownIt

from coordinator.web.reference.refusals import KEY
from coordinator.web.reference.schemas import fields_of, type_in_words

_MARKDOWN = MarkdownIt("commonmark", {"html": False})

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem;color:#1b1b1b;background:#fff}
code,pre{font:14px ui-monospace,monospace;background:#f2f2f2;border-radius:3px;padding:.1em .3em}
pre{padding:.6em;overflow-x:auto}a{color:#0b57a4}h2{border-bottom:1px solid #bbb;margin-top:2.5rem}
details{border:1px solid #ccc;border-radius:4px;margin:.4rem 0;padding:.4rem .8rem}summary{cursor:pointer}
table{border-collapse:collapse;width:100%}
td,th{border:1px solid #ddd;padding:.3rem .5rem;text-align:left;vertical-align:top}
th{background:#f6f6f6}.m{display:inline-block;min-width:4.2em;font-weight:600}td p{margin:0}nav ul{columns:2}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}code,pre,th{background:#262626}a{color:#8ab4f8}
td,th,details{border-color:#444}}
""".strip()
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src "
    f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)
"""The content policy under which the page is served: nothing but its own style."""


def reference_page(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document."""
    info = document["info"]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{escape(info['title'])}: reference</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])}</h1>",
            _MARKDOWN.render(info["description"]),
            '<p>The same as an <a href="openapi.json">OpenAPI document</a>.</p>',
            *_contents(document),
            *_operations(document),
            *_schemas(document),
            "</body></html>",
        ]
    )


def _contents(document: Mapping[str, Any]) -> Iterator[str]:
    yield "<nav><ul>"
    for tag in document["tags"]:
        yield f'<li><a href="#{escape(tag["name"])}">{escape(tag["name"])}</a>: {escape(tag["description"])}</li>'
    yield '<li><a href="#schemas">schemas</a>: The fields of requests and replies.</li></ul></nav>'


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for tag in document["tags"]:
        name = tag["name"]
        yield f'<h2 id="{escape(name)}">{escape(name.capitalize())}</h2><p>{escape(tag["description"])}</p>'
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if name in operation.get("tags", ()):
                    yield from _operation(method.upper(), path, operation)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f'<details id="{escape(operation["operationId"])}"><summary><span class="m">{method}</span>'
    yield f"<code>{escape(path)}</code> {_inline(operation['summary'])}</summary>"
    yield _MARKDOWN.render(operation["description"])
    if parameters := operation.get("parameters"):
        yield "<h4>Parameters</h4>"
        yield from _table(("name", "in", "value", "meaning"), (_parameter(each) for each in parameters))
    if body := operation.get("requestBody"):
        yield "<h4>Body</h4>"
        if "description" in body:
            yield _MARKDOWN.render(body["description"])
        yield from _contents_of(body["content"])
    yield "<h4>Replies</h4>"
    yield from _table(
        ("status", "meaning", "content"),
        ((status, *_reply(response)) for status, response in operation["responses"].items()),
    )
    yield "</details>"


def _parameter(each: Mapping[str, Any]) -> tuple[str, str, str, str]:
    schema = each.get("schema", {})
    default = schema.get("default")
    value = type_in_words(schema) + (f", by default {escape(str(default))}" if default not in (None, [], "") else "")
    required = "" if each.get("required") else " (optional)"
    words = each.get("description", "")
    if example := each.get("example"):
        words += f" Example: `{example}`"
    return f"<code>{escape(each['name'])}</code>{required}", each["in"], value, _inline(words)


def _reply(response: Mapping[str, Any]) -> tuple[str, str]:
    words = _inline(response["description"])
    for name, header in response.get("headers", {}).items():
        words += f"<br>header <code>{escape(name)}</code>: {_inline(header['description'])}"
    content = (
        "".join(_contents_of(response.get("content", {}), with_example=False)) if KEY not in response else "problem"
    )
    return words, content


def _contents_of(content: Mapping[str, Any], *, with_example: bool = True) -> Iterator[str]:
    for media_type, each in content.items():
        schema = each.get("schema", {})
        shown = type_in_words(schema) if media_type == "application/json" else ""
        yield f"<p><code>{escape(media_type)}</code> {shown or _inline(schema.get('description', ''))}</p>"
        if with_example and "example" in each:
            yield f"<pre>{escape(str(each['example']))}</pre>"


def _schemas(document: Mapping[str, Any]) -> Iterator[str]:
    yield '<h2 id="schemas">Schemas</h2>'
    for name, schema in document["components"]["schemas"].items():
        yield f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        yield _MARKDOWN.render(schema.get("description", ""))
        if "enum" in schema:
            yield f"<p>One of {', '.join(f'<code>{escape(str(each))}</code>' for each in schema['enum'])}</p>"
        else:
            yield from _table(("field", "value", "meaning"), fields_of(schema, _inline))
        for example in schema.get("examples", ()):
            yield f"<p>For example:</p><pre>{escape(json.dumps(example, indent=2, ensure_ascii=False))}</pre>"
        yield "</details>"


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>"
    yield "</table>"


def _inline(words: str) -> str:
    return str(_MARKDOWN.renderInline(" ".join(words.split())))
