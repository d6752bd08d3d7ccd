"""The table of benchmarks: on 80 columns also for many of them, and safe whatever others wrote."""

import io
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from fedloom.cli.campaign.tables.benchmark_table import BenchmarkTable
from fedloom.cli.campaign.tables.round_table import RoundTable
from fedloom.cli.plain_console import PlainConsole
from shared.benchmarks import benchmarks, suites
from shared.campaign.measured import metrics_of
from shared.campaign.spec import CampaignSpec
from shared.wire.adapters import AdapterView
from shared.wire.campaigns import CampaignDetail, RoundView
from tests.cli.test_campaign_page import part
from tests.support.scripted import FINGERPRINT, campaign_body

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def campaign(evaluation: dict[str, Any], **changes: Any) -> CampaignDetail:
    spec = CampaignSpec.model_validate(campaign_body(rounds=9, evaluation=evaluation))
    fields = {
        "id": "c1", "name": "small", "state": "running", "reason": None, "rounds_closed": 4, "rounds": 9,
        "created_at": NOW, "ended_at": None, "final_adapter": None, "best_adapter": 2, "spec": spec,
        "spec_sha256": "ab" * 32, "participants": [], "fingerprint": FINGERPRINT,
        "metrics": list(metrics_of(spec.evaluation, "sft").values()),
    }  # fmt: skip
    return CampaignDetail.model_validate(fields | changes)


def adapter(number: int, metrics: dict[str, float], views: Sequence[dict[str, Any]]) -> AdapterView:
    fields = {"number": number, "blob": {"sha256": "a" * 64, "n_bytes": 8}, "stored": True, "parent_sha256": None}
    of = {"algorithm": "fedavg", "contributions": [], "created_at": NOW, "metrics": metrics, "benchmarks": list(views)}
    return AdapterView.model_validate(fields | of)


def ran(name: str, n: int = 100, **changes: Any) -> dict[str, Any]:
    counts = {"n": n, "n_asked": 100, "n_published": 4846, "items_sha256": "b" * 64}
    return {"name": name, "agent_name": "ada", **counts, **changes}


def printed(table: BenchmarkTable | RoundTable, width: int = 80) -> str:
    console = PlainConsole(file=io.StringIO(), width=width, highlight=False, markup=False)
    table.print(console, None) if isinstance(table, RoundTable) else table.print(console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    return text


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


FINANCE = {"suite": "finance", "best": "finance.mean_of_3_acc"}


def test_each_benchmark_has_its_main_metric_and_means_have_no_items() -> None:
    values = {"fpb.acc": 0.5, "fpb.f1_macro": 0.3, "fiqa.acc": 0.25, "tfns.acc": 0.75, "finance.mean_of_3_acc": 0.5}
    views = [ran("fpb"), ran("fiqa", 99), ran("tfns", agent_name="bob"), {"name": "nwgi", "not_run": "no memory"}]
    worse = values | {"fiqa.acc": 0.2, "finance.mean_of_3_acc": 0.4833}
    shown = printed(BenchmarkTable(campaign(FINANCE), [adapter(0, values, views), adapter(2, worse, views)]))
    assert lines(shown)[1:] == [
        "BENCHMARK BASE BEST, NEWEST (2) ITEMS RAN AT",
        "fpb.acc 50.0% 50.0% 100 of 4846 ada",
        "fiqa.acc 25.0% 20.0% 99/100 of 4846 ada",
        "tfns.acc 75.0% 75.0% 100 of 4846 bob",
        "finance.mean_of_3_acc 50.0% 48.3%",
        "not run on adapter 2: nwgi: no memory",
    ]


def test_a_value_below_that_of_the_start_is_red() -> None:
    table = BenchmarkTable(
        campaign({"tasks": ["fpb"]}),
        [adapter(0, {"fpb.acc": 0.5}, [ran("fpb")]), adapter(2, {"fpb.acc": 0.4}, [ran("fpb")])],
    )
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    table.print(console)
    assert isinstance(console.file, io.StringIO)
    assert re.findall(r"\x1b\[31m *([^\x1b]*)", console.file.getvalue()) == ["40.0%"]


def test_the_start_of_a_campaign_that_is_the_best_has_one_column() -> None:
    one = campaign({"tasks": ["fpb"]}, best_adapter=0)
    assert (
        "BENCHMARK BASE, BEST, NEWEST ITEMS"
        in lines(printed(BenchmarkTable(one, [adapter(0, {"fpb.acc": 0.5}, [ran("fpb")])])))[1]
    )


def test_a_suite_of_twenty_stays_readable_on_80_columns() -> None:
    names = suites()["paper"].benchmarks
    assert len(names) == 20
    values = {metric.name: 0.5 for name in names for metric in benchmarks()[name].metrics}
    values |= {mean.metric.name: 0.5 for mean in suites()["paper"].means}
    views = [ran(name, agent_name=f"an-agent-with-a-long-name-{name}") for name in names]
    paper = campaign({"suite": "paper", "best": "paper.finance_mean_of_4_f1_weighted"})
    shown = printed(BenchmarkTable(paper, [adapter(number, values, views) for number in (0, 2, 4)]))
    for name in (*names, "paper.finance_mean_of_3_acc", "paper.finance_mean_of_4_f1_weighted"):
        assert any(line.startswith(name) for line in shown.splitlines()), name
    assert shown.count("50.0%") == 3 * 23
    assert "fpb.f1_macro" not in shown, "the other metrics are in the export"


def test_benchmarks_without_a_number_are_grouped_by_reason() -> None:
    views = [ran("fpb"), *({"name": name, "not_run": "no disk"} for name in ("fiqa", "tfns", "nwgi"))]
    shown = printed(BenchmarkTable(campaign(FINANCE), [adapter(0, {"fpb.acc": 0.5}, views)]))
    assert "not run on adapter 0: fiqa, tfns, nwgi: no disk" in shown


@pytest.mark.parametrize(("state", "warned"), [("prepared", True), ("preparing", False), ("left", False)])
def test_a_benchmark_that_nobody_runs_is_warned_of_once_an_agent_is_prepared(state: str, warned: bool) -> None:
    detail = campaign(FINANCE, participants=[part("ada", 0, state=state, benchmarks=["fpb"])])
    assert (
        "no agent runs fiqa, tfns, nwgi: owners allow it" in " ".join(lines(printed(BenchmarkTable(detail, []))))
    ) == warned
    done = campaign(FINANCE, participants=detail.participants, state="completed")
    assert "no agent runs" not in printed(BenchmarkTable(done, []))


def test_what_others_wrote_moves_no_cursor_and_makes_no_line() -> None:
    evil = "\x1b[2J[red]x[/red]\nFAKE LINE"
    views = [ran("fpb", agent_name=evil), {"name": "gsm8k", "not_run": evil}]
    detail = campaign({"tasks": ["fpb", "gsm8k"]}, participants=[part(evil, 0, benchmarks=["fpb", evil])])
    shown = printed(BenchmarkTable(detail, [adapter(0, {"fpb.acc": 0.5}, views)]), width=300)
    assert "\x1b" not in shown
    assert not any(line.startswith("FAKE") for line in shown.splitlines())
    assert "[red]x[/red]" in shown


def round_view(number: int) -> RoundView:
    fields = {"number": number, "state": "closed", "opened_at": NOW, "deadline_at": NOW, "closed_at": NOW}
    clients = {"eligible": [0, 1], "sampled": [0, 1], "contributors": [0, 1]}
    return RoundView.model_validate({**fields, **clients, "learning_rate": 2e-4})


@pytest.mark.parametrize(
    ("evaluation", "header"),
    [
        ({}, "ROUND STATE UPDATES TRAIN LOSS HELD-OUT LOSS LR TOOK"),
        ({"tasks": ["fpb"], "best": "fpb.acc"}, "ROUND STATE UPDATES TRAIN LOSS HELD-OUT LOSS FPB.ACC LR TOOK"),
        (
            {"suite": "paper", "best": "paper.finance_mean_of_4_f1_weighted"},
            "ROUND STATE TRAIN LOSS HELD-OUT LOSS PAPER.FINANCE_MEAN_OF_4_F1_WEIGHTED",
        ),
    ],
)
def test_the_table_of_rounds_has_room_for_the_metric_that_decides(evaluation: dict[str, Any], header: str) -> None:
    detail = campaign(evaluation)
    means = {detail.spec.evaluation.best: {0: 0.5, 2: 0.75}, "held_out_loss": {0: 2.0, 2: 1.5}}
    shown = lines(printed(RoundTable(detail, [round_view(1), round_view(2)], means, {})))
    assert shown[1] == header
    value = "1.5000" if not evaluation else "75.0%"
    assert f"{value} *" in shown[4]
    assert "*" not in "".join(shown[2:4])
