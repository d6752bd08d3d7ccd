"""An owner's report as it is shown: hostile text in rows and answers obeys nobody, and the words fit the numbers."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from agent.configuration.settings import AgentSettings
from agent.data.source import DataSource
from agent.orders.measure import MeasuredRow, MeasuredRows
from agent.report.measuring import MeasuredModel, Model, ModelKind
from agent.report.report import OwnReport
from agent.report.subject import Subject
from agent.workspace import Identity, Workspace
from fedloom.cli.agent.report import words
from fedloom.cli.agent.report.document import document_of
from fedloom.cli.agent.report.numbers import ReportNumbers, numbers_of
from fedloom.cli.agent.report.own_metric import OwnMetric
from fedloom.cli.agent.report.page import page
from fedloom.cli.agent.report.terminal import print_report
from fedloom.cli.plain_console import PlainConsole
from tests.cli.owner.known import known_campaign

HOSTILE = "<script>alert(1)</script> \x1b[31mred\x1b[0m \u202eback & [bold]x[/bold]"
N = 12


def model(kind: ModelKind, number: int, loss: float, answer: str) -> MeasuredModel:
    rows = [
        MeasuredRow(place=i, question=HOSTILE, expected="yes", answer=answer, loss=loss + i % 3 / 10, n_tokens=2)
        for i in range(N)
    ]
    found = MeasuredRows(metrics={"held_out_loss": loss}, n_held_out=40, n_distinct=40, rows=rows)
    return MeasuredModel(Model(kind, number, "ab" * 32 if number else None), found)


@pytest.fixture
def numbers(tmp_path: Path) -> ReportNumbers:
    known = replace(known_campaign(n_train=50, n_distinct=50, n_held_out=40), name="<b>mine</b>")
    assert known.prepared is not None
    identity = Identity(coordinator="http://127.0.0.1:9", agent_id="a", name="ada", secret="x", signing_key="0" * 64)
    source = DataSource(path=Path("rows.jsonl"))
    subject = Subject(Workspace(tmp_path), identity, AgentSettings(), known, known.prepared, source)
    models = [
        model(ModelKind.BASE, 0, 3.0, HOSTILE),
        model(ModelKind.ALONE, 3, 2.0, "no"),
        *(model(ModelKind.ADAPTER, n, loss, " yes\n") for n, loss in ((1, 1.5), (2, 1.8), (3, 1.7), (4, 1.6))),
    ]
    return numbers_of(OwnReport(subject, models, 24, ""), None)


def test_an_own_metric_is_asked_once_for_each_answer(numbers: ReportNumbers) -> None:
    asked = 0

    def drifting(_question: str, _expected: str, _answer: str) -> int:
        nonlocal asked
        asked += 1
        return asked

    found = numbers_of(numbers.report, OwnMetric("drifting", drifting))
    assert asked == N * len(found.models)
    means = {each.name: each.own.value for each in found.models if each.own is not None}
    for each in found.models:
        for difference in each.differences:
            assert difference.own is not None
            assert difference.own.value == pytest.approx(means[each.name] - means[difference.than])


def test_on_the_page_every_text_is_escaped(numbers: ReportNumbers) -> None:
    text = page(numbers, 64, datetime(2026, 1, 2, tzinfo=UTC))
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<b>mine</b>" not in text
    assert "default-src 'none'" in text
    assert text.count('<div class="answers">') == 10
    assert "✓ exact" in text


def test_on_the_terminal_no_text_moves_a_cursor_and_nothing_is_wider_than_it(numbers: ReportNumbers) -> None:
    file = io.StringIO()
    console: Console = PlainConsole(file=file, width=80, markup=False, emoji=False, highlight=False)
    print_report(console, numbers, 64)
    text = file.getvalue()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]x[/bold]" in text, "it is no markup"
    assert max(map(len, text.splitlines())) <= 80
    assert "adapter 1 is the best adapter for you: 50% better than the base model and 25% better" in " ".join(
        text.split()
    )
    assert "question 10" in text
    assert "question 11" not in text
    assert "adapter 2" in text.partition("question 1")[0], "all are in the table"
    assert "adapter 2" not in text.partition("question 1")[2], "of many, the best and the newest answer"


def test_the_words_say_which_rows_and_what_may_be_chance(numbers: ReportNumbers) -> None:
    assert words.setup(numbers) == (
        "on 40 of your own held-out rows; 12 of them, drawn at random and always the same, are answered, greedily"
    )
    adapter = numbers.named("adapter 1")
    assert adapter is not None
    assert words.exact(adapter) == "12 of 12"
    [to_base, to_alone] = adapter.differences
    assert (to_base.than, to_alone.than) == ("base", "alone")
    assert to_alone.loss is not None
    assert to_alone.loss.value == pytest.approx(-0.5)
    assert "3 rounds and 24 steps on your own rows" in " ".join(words.notes(numbers, 64))
    assert "not on this machine" not in " ".join(words.notes(numbers, 64))
    lacking = replace(numbers, report=replace(numbers.report, missing=range(5, 20)))
    assert "not on this machine, so not compared: adapter 5, 6, 7" in " ".join(words.notes(lacking, 64))
    assert document_of(lacking, [], "", [])["missing"] == [*range(5, 20)]
    document = document_of(numbers, [], "policy.report_gain = false", [])
    assert (document["best"], len(document["answers"]), document["sent"]) == (1, 10, [])
    assert document["answers"][0]["answers"]["alone"] == "no"
