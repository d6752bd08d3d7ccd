"""What operators see of a campaign that runs benchmarks, decides by one of them, and stops early."""

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedloom import Client
from fedloom.adapters.lineage import LINEAGE_FILE
from tests.cli.conftest import Run
from tests.cli.measured import BY_FPB, MeasuredCampaign
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, campaign_body
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator

WHY = "stopped after round 3 of 6: fpb.acc has not improved in 2 evaluations, since adapter 1 (61.0%)"


def flat(text: str) -> str:
    return " ".join(text.split())


def table(text: str, title: str) -> list[list[str]]:
    """The rows of a table below its header, as words."""
    lines = iter(text.splitlines())
    next(line for line in lines if line.startswith(title))
    rows = []
    for line in lines:
        if not line.strip():
            break
        rows.append(line.split())
    return rows


@pytest.fixture(scope="module")
def _stopped(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningCoordinator, MeasuredCampaign]]:
    folder = tmp_path_factory.mktemp("stopped")
    shutil.copy(sqlite_template, folder / "fedloom.db")
    with running_coordinator(quick_settings(folder, None)) as running, ExitStack() as stack:
        operator = Operator(running.url, running.key)

        def enroll(name: str) -> ScriptedAgent:
            agent = ScriptedAgent(running.url, operator.token(), name)
            stack.callback(agent.http.close)
            return agent

        campaign = MeasuredCampaign(operator, enroll, folder)
        campaign.run()
        yield running, campaign


@pytest.fixture
def stopped(
    _stopped: tuple[RunningCoordinator, MeasuredCampaign], run: Run, monkeypatch: pytest.MonkeyPatch
) -> MeasuredCampaign:
    """The campaign that stopped after round 3, for tests that only read it; ``run`` is its operator's."""
    running, campaign = _stopped
    monkeypatch.setenv("FEDLOOM_URL", running.url)
    monkeypatch.setenv("FEDLOOM_KEY", running.key)
    monkeypatch.setattr("fedloom.cli.campaign.watch.POLL_S", 0.05)
    return campaign


def test_a_running_campaign_shows_its_benchmarks_and_how_the_stop_stands(
    fedloom: Run, operator: Operator, enroll: Callable[..., ScriptedAgent], tmp_path: Path
) -> None:
    campaign = MeasuredCampaign(operator, enroll, tmp_path)
    assert "no agent runs" not in fedloom("campaign", "show", "small").out, "nobody has said yet what it runs"
    campaign.prepare()
    campaign.evaluate(0, 2.0, 0.5, 0.25)
    page = flat(fedloom("campaign", "show", "small").out)
    rule = "stops after 2 evaluations in a row without a better fpb.acc"
    assert f"{rule}; 0 so far, since adapter 0 (50.0%)" in page
    campaign.train(1)
    campaign.evaluate(1, 1.9, 0.4, 0.25)
    page = flat(fedloom("campaign", "show", "small").out)
    assert f"{rule}; 1 so far, since adapter 0 (50.0%)" in page
    assert "benchmarks run at: ada (fpb, gsm8k), bob (fpb)" in page
    assert "no agent runs mbpp: owners allow it in policy.suites of agent.toml, and have its data" in page
    stands = json.loads(fedloom("campaign", "show", "small", "--json").out)["campaign"]["stop"]
    assert stands == {"metric": "fpb.acc", "best_adapter": 0, "best_value": 0.5, "waited": 1}


def test_a_task_says_which_benchmarks_it_runs(
    fedloom: Run, operator: Operator, enroll: Callable[..., ScriptedAgent], tmp_path: Path
) -> None:
    campaign = MeasuredCampaign(operator, enroll, tmp_path, every=0, tasks_every=1)
    campaign.prepare()
    ada = campaign.agents[0]
    lease = ada.lease("benchmark")
    ada.renew(lease, phase="running benchmarks", done=3, total=100)
    page = fedloom("campaign", "show", "small").out
    [row] = [line for line in page.splitlines() if "running benchmarks" in line]
    assert row.split() == ["ada", "benchmark", "fpb,", "gsm8k", "0", "running", "benchmarks", "3/100"]
    with Client(str(ada.http.base_url), operator.key) as client:
        [task] = [each for each in client.tasks(campaign.id) if each.id == lease["task_id"]]
        assert task.benchmarks == lease["assignment"]["benchmarks"]
        assert {each.benchmarks for each in client.tasks(campaign.id) if each.kind != "benchmark"} == {None}


@pytest.mark.deep
def test_the_page_of_a_stopped_campaign_has_the_metric_that_decided(run: Run, stopped: MeasuredCampaign) -> None:
    page = run("campaign", "show", "small").out
    assert max(map(len, page.splitlines())) <= 80
    assert WHY in flat(page)
    rounds = table(page, "ROUND")
    starred = [row for row in rounds if "*" in row and row[0].isdecimal()]
    assert [row[:2] + row[4:7] for row in starred] == [["1", "closed", "1.9000", "61.0%", "*"]]
    assert "* best by fpb.acc; held-out loss and train loss in nats a token, fpb.acc in %" in page
    assert table(page, "BENCHMARK")[:2] == [
        ["fpb.acc", "50.0%", "61.0%", "58.0%", "98/100", "of", "500", "bob"],
        ["gsm8k.strict", "25.0%", "20.0%", "98/100", "of", "500", "ada"],
    ]
    assert "BASE BEST (1) NEWEST (3) ITEMS RAN AT" in flat(page)
    assert "not run on adapter 3: gsm8k: its prompts do not fit" in page
    assert "Add --adapter best for the adapter with the highest fpb.acc." in page
    assert "stops after" not in page, "it has stopped"


def test_json_has_every_value_and_where_each_benchmark_ran(run: Run, stopped: MeasuredCampaign) -> None:
    page = json.loads(run("campaign", "show", "small", "--json").out)
    assert page["benchmarks"]["fpb.acc"] == {"0": 0.5, "1": 0.61, "2": 0.6, "3": 0.58}
    assert page["benchmarks"]["gsm8k.strict"] == {"0": 0.25, "1": 0.2, "2": 0.3}
    first, second, third = page["benchmark_runs"]["3"]
    assert (first["name"], first["n"], first["n_asked"], first["n_published"]) == ("fpb", 98, 100, 500)
    assert (second["name"], second["not_run"]) == ("gsm8k", "its prompts do not fit")
    assert third["not_run"].startswith("no agent of the campaign runs it")
    assert page["campaign"]["reason"] == WHY


def test_events_say_what_benchmarks_gave_what_did_not_run_and_why_it_ended(run: Run, stopped: MeasuredCampaign) -> None:
    watched = run("campaign", "watch", "small")
    assert watched.code == 0
    evaluated = [line for line in watched.out.splitlines() if " adapter-evaluated " in line]
    assert "fpb.acc 50.0%, gsm8k.strict 25.0%, 5 further benchmark values; not run: mbpp (no agent" in evaluated[0]
    assert "fpb.acc 58.0%, 4 further benchmark values; not run: gsm8k (its prompts do not fit); mbpp (" in evaluated[3]
    assert f"campaign-ends-early round=3 rounds=6 reason={WHY}" in watched.out
    assert watched.out.splitlines()[-1].startswith(f"completed ({WHY}); get the adapter with: fedloom adapter pull")
    without_names = run("campaign", "events").out
    assert "fpb.acc" in without_names
    assert f"reason={WHY}" in without_names


def test_the_list_of_adapters_has_the_metric_that_decided(run: Run, stopped: MeasuredCampaign) -> None:
    listed = run("adapter", "list", "small").out
    assert [row[1] for row in table(listed, "NUMBER")[:4]] == ["50.0%", "61.0%", "60.0%", "58.0%"]
    assert "best: highest fpb.acc; fpb.acc in %" in listed


def test_on_a_wide_terminal_the_list_of_adapters_has_the_loss_too(
    run: Run, stopped: MeasuredCampaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    listed = run("adapter", "list", "small").out
    assert [row[1:3] for row in table(listed, "NUMBER")[:2]] == [["2.0000", "50.0%"], ["1.9000", "61.0%"]]


def test_the_best_adapter_says_by_what_and_its_card_has_the_benchmarks(
    run: Run, stopped: MeasuredCampaign, tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    pulled = run("adapter", "pull", "small", "--out", folder, "--adapter", "best")
    assert "wrote adapter 1 of small" in pulled.out
    assert (
        "the best: highest fpb.acc, held-out loss 1.9000 nats a token, fpb.acc 61.0%, gsm8k.strict 20.0%)" in pulled.out
    )
    card = (folder / "README.md").read_text()
    assert "| `gsm8k.strict` | 20.0% | 98 of 500, 100 asked | `ada` | `" in card
    assert "At most 100 items of each, drawn with seed 7." in card
    lineage = json.loads((folder / LINEAGE_FILE).read_text())
    assert [each["name"] for each in lineage["benchmarks"]] == ["fpb", "gsm8k", "mbpp"]


def test_benchmarks_are_exported_with_their_items_and_reasons(run: Run, stopped: MeasuredCampaign) -> None:
    rows = list(csv.DictReader(io.StringIO(run("campaign", "export", "small", "--what", "benchmarks").out)))
    [strict] = [row for row in rows if (row["adapter"], row["metric"]) == ("2", "gsm8k.strict")]
    assert (strict["value"], strict["n"], strict["n_asked"], strict["n_published"]) == ("0.3", "98", "100", "500")
    assert (strict["agent"], len(strict["items_sha256"]), strict["not_run"]) == ("ada", 64, "")
    [none] = [row for row in rows if (row["adapter"], row["benchmark"]) == ("3", "gsm8k")]
    assert (none["metric"], none["value"], none["not_run"]) == ("", "", "its prompts do not fit")
    lines = run("campaign", "export", "small", "--what", "benchmarks", "--format", "jsonl").out.splitlines()
    assert len(lines) == len(rows)
    assert json.loads(lines[0]) | {"items_sha256": ""} == {
        "adapter": 0, "metric": "fpb.acc", "value": 0.5, "benchmark": "fpb", "n": 98, "n_asked": 100,
        "n_published": 500, "items_sha256": "", "agent": rows[0]["agent"], "not_run": None,
    }  # fmt: skip
    metrics = list(csv.DictReader(io.StringIO(run("campaign", "export", "small").out)))
    assert [row["value"] for row in metrics if row["name"] == "fpb.acc"] == ["0.5", "0.61", "0.6", "0.58"]
    assert {row["client"] for row in metrics if row["name"] == "fpb.acc"} == {""}


def test_from_python_benchmarks_are_read_by_metric_and_by_adapter(stopped: MeasuredCampaign) -> None:
    with Client() as client:
        rows = list(client.metrics(stopped.id, "fpb.acc"))
        best = client.adapter(stopped.id, "best")
    assert [(row.round, row.value, row.client_number) for row in rows] == [
        (0, 0.5, None), (1, 0.61, None), (2, 0.6, None), (3, 0.58, None),
    ]  # fmt: skip
    assert (best.number, best.metrics["fpb.acc"], best.benchmarks[1].agent_name) == (1, 0.61, "ada")


def test_before_a_campaign_starts_it_says_what_is_measured_and_what_owners_allow(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "campaign.yaml"
    evaluation = {**BY_FPB, "tasks_every": 5, "stop": {"patience": 1, "min_delta": 0.01}}
    file.write_text(yaml.safe_dump(campaign_body(rounds=6, evaluation=evaluation)))
    assert run("campaign", "create", file, "--dry-run").out.splitlines()[1:] == [
        "each adapter is evaluated on held-out rows after every round",
        "benchmarks run on the adapters: fpb, gsm8k, mbpp, at most 100 items of each (seed 7), after every 5 rounds",
        'at agents whose agent.toml allows them (policy.suites = ["fpb", "gsm8k", "mbpp"]) and whose [evaluation] data '
        "folder has their data; one agent for each benchmark is enough",
        "these run programs that the model writes, in a sandbox: mbpp",
        "the best adapter is chosen by fpb.acc",
        "stops after 1 evaluation without fpb.acc improving by more than 0.01",
        "if no adapter can be measured by that, the campaign pauses and says why",
    ]


@pytest.mark.parametrize(
    ("evaluation", "never"),
    [
        ({"stop": {"patience": 5}}, False),
        ({"stop": {"patience": 6}}, True),
        ({"every": 4, "stop": {"patience": 2}}, True),
        ({**BY_FPB, "tasks_every": 5, "stop": {"patience": 1}}, False),
        ({**BY_FPB, "tasks_every": 5, "stop": {"patience": 2}}, True),
    ],
)
def test_a_stop_that_never_comes_is_told(evaluation: dict[str, Any], never: bool, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "campaign.yaml"
    file.write_text(yaml.safe_dump(campaign_body(rounds=6, evaluation=evaluation)))
    said = run("campaign", "create", file, "--dry-run").out
    assert ("; with so few evaluations that never happens" in said) is never
