"""Every setting of a coordinator and of an agent is documented, with its bounds and its default."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agent.configuration.settings import AgentSettings, NetworkSettings
from agent.configuration.template import TEMPLATE
from agent.data.source import DataSource
from coordinator.settings import Settings
from fedloom.reference.schema_text import describe, yaml_literal
from shared.validation.described import descriptions

DOCS = Path(__file__).parents[3] / "docs"


def described(model: type[BaseModel], prefix: str, name_of: Any) -> Iterator[str]:
    """Yield the rows of a table of a model's fields, nested groups included."""
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from described(type(field.default), f"{prefix}{name}__", name_of)
            continue
        value = describe(schema["properties"][name], schema.get("$defs", {}))
        default = field.default if not isinstance(field.default, Path) else str(field.default)
        shown = "" if default is None else f"`{yaml_literal(default)}`"
        meaning = " ".join(descriptions(model).get(name, "").split())
        yield f"| `{name_of(prefix + name)}` | {value} | {shown} | {meaning} |"


def test_each_setting_of_a_coordinator_is_documented() -> None:
    page = (DOCS / "operator.md").read_text(encoding="utf-8")
    rows = list(described(Settings, "FEDLOOM_", str.upper))
    assert re.findall(r"^\| `FEDLOOM_.*$", page, re.MULTILINE) == rows, "write into the page:\n" + "\n".join(rows)


def test_each_setting_of_an_agents_network_is_documented() -> None:
    page = (DOCS / "data-owner.md").read_text(encoding="utf-8")
    rows = list(described(NetworkSettings, "", str))
    assert re.findall(r"^\| `\w+_s` .*$", page, re.MULTILINE) == rows, "write into the page:\n" + "\n".join(rows)


SECTIONS = {name: field.default for name, field in AgentSettings.model_fields.items()}


@pytest.mark.parametrize("section", [name for name, default in SECTIONS.items() if isinstance(default, BaseModel)])
def test_the_file_that_an_agent_starts_from_lists_the_settings(section: str) -> None:
    part = TEMPLATE.partition(f"[{section}]\n")[2].partition("\n[")[0]
    assert re.findall(r"^# (\w+) = ", part, re.MULTILINE) == list(type(SECTIONS[section]).model_fields)


def test_each_setting_of_a_data_source_is_documented() -> None:
    pages = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("data.md", "data-owner.md"))
    named = set(re.findall(r"^(\w+) = ", pages, re.MULTILINE)) | set(re.findall(r"`(\w+)(?: = [^`]+)?`", pages))
    assert set(DataSource.model_fields) <= named
