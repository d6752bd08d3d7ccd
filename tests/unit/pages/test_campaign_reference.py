"""The page on the campaign file agrees with the model, and its examples work."""

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, Field, TypeAdapter

from fedloom.cli.campaign import commands as command
from fedloom.reference import campaign_file as campaign_reference
from fedloom.reference.schema_text import describe
from shared import algorithms
from shared.algorithms import Algorithm, AlgorithmParams, fedavg
from shared.campaign.evaluation import BenchmarkName
from shared.campaign.file import CampaignFileError, parse_campaign
from shared.campaign.spec import CampaignSpec, Name
from shared.metrics import MetricName

FILE = Path(__file__).parents[3] / "docs" / "campaign.md"
PAGE = campaign_reference.campaign_reference()
MODELS: list[tuple[str, type[BaseModel]]] = [("Fields", CampaignSpec), *campaign_reference.sections()]


def part(heading: str, page: str = PAGE) -> str:
    """The text between a heading and the next one."""
    match = re.search(rf"^##+ `?{re.escape(heading)}`?\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    assert match, f"no heading {heading}"
    return match.group(1)


def rows(heading: str, page: str = PAGE) -> dict[str, list[str]]:
    """The table below a heading: field to value, default and meaning."""
    lines = [line for line in part(heading, page).splitlines() if line.startswith("| `")]
    cells = [re.split(r"(?<!\\)\|", line.strip("|")) for line in lines]
    assert all(len(row) == 4 for row in cells)
    return {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in cells}


def fence(language: str, text: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_file_is_what_the_model_says() -> None:
    assert FILE.read_text(encoding="utf-8") == PAGE, "docs/campaign.md differs from the model; run: make docs"


def test_the_command_prints_the_page_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    command.reference()
    assert capsys.readouterr().out == PAGE


def test_the_command_renders_the_page_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    command.reference()
    shown = capsys.readouterr().out
    assert "min_learning_rate" in shown
    assert "| --- |" not in shown


@pytest.mark.parametrize(("heading", "model"), MODELS)
def test_every_field_is_there_with_a_meaning(heading: str, model: type[BaseModel]) -> None:
    table = rows(heading)
    assert list(table) == list(model.model_fields)
    assert all(meaning and value != "anything" for value, _, meaning in table.values())


def test_every_section_that_is_linked_has_a_heading() -> None:
    headings = re.findall(r"^##+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}  # as GitHub does
    linked = set(re.findall(r"\(#([\w-]+)\)", PAGE))
    assert "evaluationstop" in linked
    assert linked <= anchors


def test_the_defaults_shown_are_those_that_the_reader_gives() -> None:
    written: dict[str, Any] = yaml.safe_load(campaign_reference.SMALLEST)
    stop = {"stop": {}}  # a section without which a campaign is another one
    n_shown = 0
    for heading, model in MODELS:
        section = written
        for name in [] if model is CampaignSpec else heading.split("."):
            section = section.setdefault(name, {})
        for name, (_, default, _) in rows(heading).items():
            field = model.model_fields[name]
            assert (default == "**required**") == field.is_required()
            assert (default == "not set") == (not field.is_required() and field.default is None)
            if default.startswith("`"):
                section[name] = yaml.safe_load(default.strip("`"))
                n_shown += 1
    assert n_shown > 15
    least = yaml.safe_load(campaign_reference.SMALLEST) | {"evaluation": stop}
    assert parse_campaign(yaml.safe_dump(written)) == parse_campaign(yaml.safe_dump(least))


def test_every_example_is_a_valid_campaign() -> None:
    examples = fence("yaml")
    assert examples
    for example in examples:
        parse_campaign(example)


def test_nothing_can_be_left_out_of_the_smallest_file() -> None:
    whole = yaml.safe_load(campaign_reference.SMALLEST)
    for name in whole:
        with pytest.raises(CampaignFileError):
            parse_campaign(yaml.safe_dump({key: value for key, value in whole.items() if key != name}))
        if isinstance(whole[name], dict):
            assert len(whole[name]) == 1


def test_the_errors_shown_are_those_of_the_file_above_them() -> None:
    numbered, errors = fence("text", part("When something is wrong"))
    wrong = "\n".join(line[4:] for line in numbered.splitlines())
    with pytest.raises(CampaignFileError) as caught:
        parse_campaign(wrong, source="campaign.yaml")
    assert errors.strip() == str(caught.value)
    for rule in (
        "lm_head cannot be adapted",
        "is above learning_rate",
        "is above clients_per_round",
        "line 19: evaluation.stop.patiense: unknown field; did you mean 'patience'?",
    ):
        assert rule in errors


def test_an_algorithm_is_described_with_its_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    class Params(AlgorithmParams):
        mu: Annotated[float, Field(ge=0, description="Weight of |w - x|.")] = 0.01
        variant: Literal["a", "b"] = Field(description="Which one.")

    prox = Algorithm("prox", "Stays close.", Params, fedavg.Server, fedavg.Client)
    monkeypatch.setattr(campaign_reference, "bundled_algorithms", lambda: [prox])
    page = campaign_reference.campaign_reference()
    assert "Stays close." in part("prox", page)
    assert rows("prox", page) == {
        "mu": ["number, at least 0", "`0.01`", r"Weight of \|w - x\|."],
        "variant": ["`a` or `b`", "**required**", "Which one."],
    }


def test_a_plug_in_on_this_machine_does_not_change_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in = EntryPoint("mine", "tests.nowhere", algorithms.PLUGINS.group)
    monkeypatch.setattr(algorithms.PLUGINS, "installed", {"mine": plug_in, "base": plug_in})
    assert "mine" in algorithms.names()
    bundled = {file.stem for file in Path(fedavg.__file__).parent.glob("[a-z]*.py")} - {"base"}
    assert {each.name for each in campaign_reference.bundled_algorithms()} == bundled


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "whole number"),
        (Annotated[int, Field(gt=0, lt=1001)], "whole number, 1 to 1,000"),
        (Annotated[float, Field(gt=0)], "number, above 0"),
        (Annotated[float, Field(ge=0, lt=1)] | None, "number, at least 0 and below 1"),
        (bool, "`true` or `false`"),
        (Literal["x", 1.0, "z"], "`x`, `1` or `z`"),
        (Annotated[str, Field(max_length=9)], "text, at most 9 characters"),
        (Annotated[str, Field(pattern="^a$")], "text of the form `^a$`"),
        (Annotated[list[Name], Field(min_length=1)] | Literal["all"], "list of names, at least 1, or `all`"),
        (list[Annotated[int, Field(ge=1)]], "list, each whole number, at least 1"),
        (dict[Name, str], "pairs of name and text"),
        (Annotated[list[BenchmarkName], Field(max_length=9)] | None, "list, each name, in lower case, at most 9"),
        (MetricName, "name of a metric"),
        (Any, "anything"),
    ],
)
def test_types_in_plain_words(annotation: Any, text: str) -> None:
    schema = TypeAdapter(annotation).json_schema()
    assert describe(schema, schema.get("$defs", {})) == text
