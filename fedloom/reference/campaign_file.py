"""Generates the reference of the campaign file, ``docs/campaign.md``, from the model, so that it stays up to date.

Fields, defaults, bounds and descriptions come from ``CampaignSpec``, the kinds' ``Section`` and the algorithms'
``Params``. The error messages on the page are those of the reader, produced while the page is generated.
"""

import inspect
from collections.abc import Iterator

from pydantic import BaseModel

from fedloom.reference.schema_text import Schema, describe, yaml_literal
from shared import algorithms, kinds
from shared.algorithms import Algorithm
from shared.campaign.file import CampaignFileError, parse_campaign, section_of
from shared.campaign.spec import CampaignSpec
from shared.kinds import Kind
from shared.validation.described import descriptions

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
"""A campaign with only the required fields."""

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
evaluation:
  stop:
    patiense: 5
"""
"""A campaign with errors, among them errors between fields, which no table of fields shows."""

INTRO = """\
# The campaign file

One file describes a campaign. The fields and their names are the same in the YAML file, the JSON file, the body of
`POST /v1/campaigns`, and `CampaignSpec` in Python. To check a file without a coordinator:

```
fedloom campaign create FILE --dry-run
```

[examples/campaign.yaml](../examples/campaign.yaml) is a complete file with comments. This page lists every field.
`fedloom campaign reference` generates it from the model that reads the file.
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
    yield "Rules between fields appear in the error messages at the [end of the page](#when-something-is-wrong).\n"
    yield from _table(CampaignSpec)
    for section, model in sections():
        yield f"### `{section}`\n"
        yield f"{_sentence(model)}\n"
        yield from _table(model, section)
    yield "## Parameters of the kinds of training\n"
    yield "They go into a section with the kind's name. These kinds come with Fedloom.\n"
    for kind in bundled_kinds():
        yield from _parameters(kind.name, kind.summary, kind.section)
    yield "## Parameters of the algorithms\n"
    yield "They go under `algorithm.params`. These algorithms come with Fedloom; `fedloom algorithm list` lists all"
    yield "that a coordinator offers.\n"
    for algorithm in bundled_algorithms():
        yield from _parameters(algorithm.name, algorithm.summary, algorithm.params)
    yield "## When something is wrong\n"
    yield "All errors are reported at once, each with its line and field. This file\n"
    yield "```text"
    yield from (f"{number:2}  {line}" for number, line in enumerate(WRONG.splitlines(), start=1))
    yield "```\n\ngives these errors:\n"
    yield f"```text\n{_refusal(WRONG)}\n```\n"


def sections(of: type[BaseModel] = CampaignSpec, path: str = "") -> list[tuple[str, type[BaseModel]]]:
    """The sections by their dotted path, in the campaign's order; those within a section follow it.

    Args:
        of: the model whose sections they are.
        path: that model's own path; empty for the campaign.
    """
    found: list[tuple[str, type[BaseModel]]] = []
    for name, field in of.model_fields.items():
        if (model := section_of(field.annotation)) is not None:
            inner = f"{path}.{name}" if path else name
            found += [(inner, model), *sections(model, inner)]
    return found


def bundled_algorithms() -> list[Algorithm]:
    """The algorithms that come with Fedloom. Others that are installed must not change the page."""
    return [algorithms.find(name) for name in sorted(algorithms.bundled())]


def bundled_kinds() -> list[Kind]:
    """The kinds of training that come with Fedloom, as above."""
    return [kinds.find(name) for name in sorted(kinds.bundled())]


def _parameters(name: str, summary: str, params: type[BaseModel]) -> Iterator[str]:
    yield f"### `{name}`\n"
    yield f"{summary}\n"
    if params.model_fields:
        yield from _table(params)
    else:
        yield "It has no parameters.\n"


def default_of(model: type[BaseModel], name: str) -> str:
    """A field's default as YAML, or a word if it has no YAML form: required, not set."""
    field = model.model_fields[name]
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its defaults"
    return "not set" if value is None else f"`{yaml_literal(value)}`"


def _table(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """A table with one row for each field of a model. path: dotted, of its section; empty for the campaign itself."""
    schema = model.model_json_schema(by_alias=False)
    definitions: Schema = schema.get("$defs", {})
    yield "| field | value | default | meaning |\n| --- | --- | --- | --- |"
    meanings = descriptions(model)
    for name, field in model.model_fields.items():
        if (section := section_of(field.annotation)) is not None:
            anchor = f"{path}{name}"  # as the hub makes it of a heading: without dots
            value, meaning = f"[section](#{anchor.replace('.', '')})", _sentence(section)
        else:
            value = describe(schema["properties"][name], definitions)
            meaning = meanings.get(name, "")
        cells = (f"`{name}`", value, default_of(model, name), " ".join(meaning.split()))
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
    yield ""


def _sentence(model: type[BaseModel]) -> str:
    return " ".join((inspect.getdoc(model) or "").split())


def _rule_for_names() -> str:
    """The rule for names, from the reader's error for an invalid one."""
    return _refusal(SMALLEST.replace("clinic-notes", "'-'")).rpartition("name: ")[2]


def _refusal(text: str) -> str:
    """The reader's error message for an invalid file."""
    try:
        parse_campaign(text, source="campaign.yaml")
    except CampaignFileError as error:
        return str(error)
    message = "the page's example of an invalid file is valid"
    raise AssertionError(message)
