"""docs/events.md and the REST API's description list each event type with exactly the keys of its data."""

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from fastapi import FastAPI

from coordinator.events.endpoints import router
from shared import events
from shared.events import EventType
from shared.wire.tasks.leases import FailureKind

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "events.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `([a-z-]+)`\n\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def sentences() -> Iterator[tuple[EventType, str]]:
    """Yield each event type with the sentence below it, which says when the event is recorded."""
    [body] = [node.body for node in ast.parse(inspect.getsource(events)).body if isinstance(node, ast.ClassDef)]
    for member, below in pairwise(body):
        if isinstance(member, ast.Assign) and isinstance(member.targets[0], ast.Name):
            assert isinstance(below, ast.Expr), f"{member.targets[0].id} has no sentence"
            assert isinstance(below.value, ast.Constant)
            yield EventType[member.targets[0].id], " ".join(str(below.value.value).split())


def keys_of(section: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \| \S.* \|$", section, re.MULTILINE)


def test_the_page_has_each_type_and_no_other() -> None:
    assert set(SECTIONS) == {each.value for each in EventType}
    assert len(re.findall(r"^### ", PAGE, re.MULTILINE)) == len(EventType)


@pytest.mark.parametrize(("event", "sentence"), list(sentences()), ids=str)
def test_a_types_section_says_when_and_has_its_keys(event: EventType, sentence: str) -> None:
    section = SECTIONS[event.value]
    assert " ".join(section.partition("\n\n")[0].split()) == sentence
    assert keys_of(section) == list(event.carries)


def test_the_sentences_are_of_all_types() -> None:
    assert [event for event, _ in sentences()] == list(EventType)


def test_the_page_has_each_kind_of_failure() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \|", PAGE.partition("## Kinds of failure")[2], re.MULTILINE)
    assert listed == [each.value for each in FailureKind]


def test_the_description_of_the_rest_api_has_each_type_with_its_keys() -> None:
    app = FastAPI()
    app.include_router(router)
    operation = app.openapi()["paths"]["/v1/campaigns/{campaign}/events"]["get"]
    listed = re.findall(r"^- `([a-z-]+)`: (.*)$", operation["description"], re.MULTILINE)
    assert [(name, re.findall(r"`(\w+)`", keys)) for name, keys in listed] == [
        (each.value, list(each.carries)) for each in EventType
    ]


@pytest.mark.parametrize("page", ["operator.md", "researcher.md", "data-owner.md", "algorithms.md", "reliability.md"])
def test_the_events_that_other_pages_name_exist(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    named = re.findall(r"\bevents? (`[a-z-]+`(?:, `[a-z-]+`)*)", text)
    assert {name for each in named for name in re.findall(r"`([a-z-]+)`", each)} <= {each.value for each in EventType}
