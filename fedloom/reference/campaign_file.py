"""Writes the page on the campaign file, ``docs/campaign.md``, from the model itself, so that it cannot go stale.

Fields, defaults, bounds and sentences come from ``CampaignSpec`` and from the algorithms' ``Params``; what the page
shows of errors is what the reader says while the page is written.
"""

import inspect
from collections.abc import Iterator
from typing import TypeGuard

from pydantic import BaseModel

from fedloom.reference.schema_text import Schema, literal, words
from shared import algorithms
from shared.algorithms import Algorithm
from shared.campaign import CampaignSpec
from shared.campaign_file import CampaignFileError, parse_campaign

SMALLEST = """\
name: clinic-notes
base:
  model: HuggingFaceTB/SmolLM2-135M-Instruct
training:
  steps: 20
data:
  name: notes
rounds: 10
"""
"""A campaign with nothing in it that could be left out."""

WRONG = """\
name: clinic notes
base:
  model: HuggingFaceTB/SmolLM2-135M-Instruct
lora:
  target_modules: [q_proj, lm_head]
training:
  steps: 20
  min_learning_rate: 1.0e-4
data:
  name: notes
  templat: vicuna
selection:
  clients_per_round: 3
  minimum: 5
deadline:
  round_s: 0
"""
"""A campaign that breaks, beside others, the rules that no table can say: those between fields."""

INTRO = """\
# The campaign file

A campaign is one file. The same fields, under the same names, make the YAML file, the JSON file, the body of
`POST /v1/campaigns`, and `CampaignSpec` in Python. Check a file without a coordinator:

```
fedloom campaign create FILE --dry-run
```

[examples/campaign.yaml](../examples/campaign.yaml) is a whole file with comments. This page lists every field. It is
written by `fedloom campaign reference`, from the model that reads the file.
"""


def campaign_reference() -> str:
    """The whole page, as GitHub Markdown."""
    return "\n".join(_page())


def _page() -> Iterator[str]:
    yield INTRO
    yield "## The smallest file\n"
    yield f"```yaml\n{SMALLEST}```\n"
    yield "Everything else has a default.\n"
    yield "## Fields\n"
    yield f"Where a table says *name*: {_rule_for_names()}."
    yield "Rules between fields are in the errors at the [end of the page](#when-something-is-wrong).\n"
    yield from _table(CampaignSpec)
    for section, model in sections():
        yield f"### `{section}`\n"
        yield f"{_sentence(model)}\n"
        yield from _table(model)
    yield "## Parameters of the algorithms\n"
    yield "They go under `algorithm.params`. The algorithms here come with Fedloom; `fedloom algorithm list`"
    yield "shows all that a coordinator has.\n"
    for algorithm in bundled_algorithms():
        yield f"### `{algorithm.name}`\n"
        yield f"{algorithm.summary}\n"
        if algorithm.params.model_fields:
            yield from _table(algorithm.params)
        else:
            yield "It has no parameters.\n"
    yield "## When something is wrong\n"
    yield "All that is wrong is told at once, each with its line and field. This file\n"
    yield "```text"
    yield from (f"{number:2}  {line}" for number, line in enumerate(WRONG.splitlines(), start=1))
    yield "```\n\nis refused with\n"
    yield f"```text\n{_refusal(WRONG)}\n```\n"


def sections() -> list[tuple[str, type[BaseModel]]]:
    """The campaign's sections by name, in its order."""
    fields = CampaignSpec.model_fields.items()
    return [(name, field.annotation) for name, field in fields if _is_model(field.annotation)]


def bundled_algorithms() -> list[Algorithm]:
    """The algorithms that come with Fedloom. What else this machine has installed must not change the page."""
    return [algorithms.find(name) for name in sorted(algorithms.bundled())]


def default_of(model: type[BaseModel], name: str) -> str:
    """A field's default as a file would say it, in words where it would say nothing."""
    field = model.model_fields[name]
    if field.is_required():
        return "**needed**"
    if _is_model(field.annotation):
        return "its defaults"
    value = field.get_default(call_default_factory=True)
    return "not set" if value is None else f"`{literal(value)}`"


def _is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel)


def _table(model: type[BaseModel]) -> Iterator[str]:
    """A row for every field of a model."""
    schema = model.model_json_schema(by_alias=False)
    definitions: Schema = schema.get("$defs", {})
    yield "| field | value | default | meaning |\n| --- | --- | --- | --- |"
    for name, field in model.model_fields.items():
        if _is_model(field.annotation):
            value, meaning = f"[section](#{name})", _sentence(field.annotation)
        else:
            value = words(schema["properties"][name], definitions)
            meaning = field.description or ""
        cells = (f"`{name}`", value, default_of(model, name), " ".join(meaning.split()))
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
    yield ""


def _sentence(model: type[BaseModel]) -> str:
    return " ".join((inspect.getdoc(model) or "").split())


def _rule_for_names() -> str:
    """What the reader says of a name that is none."""
    return _refusal(SMALLEST.replace("clinic-notes", "'-'")).rpartition("name: ")[2]


def _refusal(text: str) -> str:
    """What the reader says of a file that it refuses."""
    try:
        parse_campaign(text, source="campaign.yaml")
    except CampaignFileError as error:
        return str(error)
    message = "the page's example of a wrong file is right"
    raise AssertionError(message)
