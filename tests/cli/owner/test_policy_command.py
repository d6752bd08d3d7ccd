"""``fedloom agent policy``: the settings in words, totals, and what would be refused of a campaign."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.configuration.open_policy import with_open_policy
from agent.configuration.settings import load_settings
from agent.data.identity import identity_of
from agent.main import TEMPLATE
from agent.record.benchmarks import BenchmarkedAdapter
from agent.record.bookings import Work, WorkKind
from agent.record.campaigns import Decider, Decision, Prepared
from agent.workspace import Identity, Workspace
from shared.wire.benchmarks import BenchmarkScore
from shared.wire.tasks.results import Fingerprint
from tests.agent.parts import FINGERPRINT
from tests.cli.conftest import Run
from tests.cli.owner.known import known_campaign
from tests.support.ledgers import NO_LEDGER
from tests.support.published import finance
from tests.support.scripted import campaign_body

NOTES = '[data.notes]\npath = "notes.jsonl"\n'


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    """An enrolled home with an open policy, and a campaign that trained two of its three rounds."""
    workspace = Workspace(tmp_path / "home")
    workspace.create()
    workspace.record.create()
    workspace.write_identity(
        Identity(coordinator="http://127.0.0.1:9", agent_id="a1", name="ada", secret="s", signing_key="0" * 64)
    )
    workspace.settings_file.write_text(with_open_policy(NOTES))
    (workspace.home / "notes.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    record, known = workspace.record, known_campaign()
    record.campaigns.add("c1", known.coordinator, known.spec_sha256, known.spec, known.terms)
    noted = record.campaigns.find("c1")
    assert noted is not None
    record.campaigns.decide(noted, Decision.ACCEPTED, Decider.OWNER)
    source = load_settings(workspace.settings_file).data["notes"]
    pool = record.bookings.pool_of(identity_of(source))
    record.campaigns.bind("c1", pool)
    fingerprint = Fingerprint.model_validate(FINGERPRINT)
    record.campaigns.set_prepared(
        "c1", Prepared(fingerprint=fingerprint, rank=2, n_train=20, n_held_out=5, n_distinct=15, n_distinct_held_out=5)
    )
    for number in (1, 2):
        record.bookings.book(pool, "a", Work("c1", WorkKind.TRAIN, number, 0, "s", "a", steps=5, n_rows=10), NO_LEDGER)
    record.bookings.book(pool, "a", Work("c1", WorkKind.EVALUATE, 0, 0, "s", "a"), NO_LEDGER)
    return workspace


def set_policy(home: Workspace, policy: str, data: str = NOTES) -> None:
    home.settings_file.write_text(with_open_policy(f"{data}[policy]\n{policy}"))


def test_totals_are_told_by_campaign_and_by_data_with_what_is_left(home: Workspace, run: Run) -> None:
    set_policy(home, "max_rounds = 5\nmax_epochs = 3\nmax_campaigns = 4\n")
    told = json.loads(run("agent", "policy", "--home", home.home, "--json").out)
    [campaign], [data] = told["campaigns"], told["data"]
    assert (campaign["trainings"], campaign["trainings_left"], campaign["rows"]) == (2, 3, 20)
    assert (campaign["passes"], campaign["passes_left"], campaign["evaluations"]) == (1.0, 2.0, 1)
    expected = {"name": "notes", "trainings": 2, "rows": 20, "evaluations": 1}
    assert data == {**expected, "campaigns_in_30_days": 1, "campaigns_left": 3}
    shown = run("agent", "policy", "--home", home.home)
    assert (shown.code, shown.err) == (0, "")
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "EVALUATIONS" in shown.out
    home.record.campaigns.forget("c1")
    assert json.loads(run("agent", "policy", "--home", home.home, "--json").out)["data"] == [data], "not forgotten"


def test_the_settings_that_an_agent_starts_from_are_told_in_80_columns(home: Workspace, run: Run) -> None:
    home.settings_file.write_text(TEMPLATE)
    shown = run("agent", "policy", "--home", home.home)
    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) <= 80
    said = " ".join(shown.out.split())
    assert "you, each campaign once, by the digest of all that it says (accept)" in said
    assert "base models NONE: name one in [models] or in base_models, or every campaign is refused" in said
    assert "rounded mean losses, once a round (report); of at least 20 held-out rows (min_held_out)" in said
    assert "prove nothing" in said


@pytest.mark.parametrize(
    ("policy", "warned"),
    [
        ('report = "live"', "With the loss of each step (report)"),
        ("min_rows = 2", "single rows can be READ from it"),
        ('accept = "any"', "WITHOUT ASKING YOU"),
        ("min_participants = 1", "averaging hides nothing"),
        ("remote_code = true", "MAY RUN here"),
    ],
)
def test_a_weak_setting_is_called_weak_and_a_default_is_not(
    home: Workspace, run: Run, policy: str, warned: str
) -> None:
    home.settings_file.write_text(f"{NOTES}[policy]\n{policy}\n")
    assert warned in " ".join(run("agent", "policy", "--home", home.home).out.split())
    home.settings_file.write_text(NOTES)
    assert warned not in " ".join(run("agent", "policy", "--home", home.home).out.split())


@pytest.mark.parametrize(
    ("policy", "refusal"),
    [
        ("max_rounds = 2", "rounds is 3, and policy.max_rounds = 2"),
        ("max_epochs = 1.2", "1.5 passes over 20 rows, and policy.max_epochs = 1.2"),
        ("min_rows = 12", "an update would stand on 10 distinct rows, and policy.min_rows = 12"),
        ('kinds = ["dpo"]', 'the kind of training is sft, and policy.kinds = ["dpo"]'),
    ],
)
def test_what_is_refused_of_a_known_campaign_is_explained(home: Workspace, run: Run, policy: str, refusal: str) -> None:
    known = home.record.campaigns.find("c1")
    assert known is not None
    for named in ("c1", "small", known.spec_sha256[:10]):
        ran = run("agent", "policy", "--explain", named, "--home", home.home)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("nothing in agent.toml refuses small; it was accepted by you, ")
    set_policy(home, policy + "\n")
    ran = run("agent", "policy", "--explain", "small", "--home", home.home)
    assert ran.code == 1
    assert refusal in ran.out
    [told, *_] = json.loads(run("agent", "policy", "--explain", "small", "--home", home.home, "--json").out)["refusals"]
    assert told["key"].partition(".")[2] in policy


def a_file(folder: Path, **changes: Any) -> Path:
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(campaign_body(**changes)))
    return path


def test_what_would_be_refused_of_a_file_is_explained(home: Workspace, run: Run, tmp_path: Path) -> None:
    explain = ("agent", "policy", "--home", home.home, "--explain")
    ran = run(*explain, a_file(tmp_path))
    assert (ran.code, ran.out.partition(". ")[0]) == (
        0,
        "nothing in agent.toml refuses small; it would be accepted without asking you",
    )
    set_policy(home, 'accept = "ask"\nmax_campaigns = 1\n')
    ran = run(*explain, a_file(tmp_path))
    assert ran.code == 1
    assert "it is campaign 2 in 30 days that uses these rows, and policy.max_campaigns = 1" in ran.out
    set_policy(home, "", '[data.notes]\npath = "notes.jsonl"\ncampaigns = ["ffffffffffffffffffffffffffffffff"]\n')
    assert "and data.notes.campaigns = " in run(*explain, a_file(tmp_path)).out
    set_policy(home, "", '[data.notes]\npath = "notes.jsonl"\nprompt = 7\n')
    ran = run(*explain, a_file(tmp_path))
    assert (ran.code, "data.notes = a table with errors" in ran.out) == (1, True)
    assert run(*explain, tmp_path / "none.yaml").code == 2
    assert run(*explain, "nobody").code == 5


def test_explaining_does_no_work_and_changes_no_record(home: Workspace, run: Run, tmp_path: Path) -> None:
    before = (home.home / "record.db").read_bytes()
    (home.home / "notes.jsonl").write_text('{"prompt": "another", "completion": "row"}\n')
    for named in ("small", a_file(tmp_path)):
        run("agent", "policy", "--explain", named, "--home", home.home)
    run("agent", "policy", "--home", home.home)
    assert (home.home / "record.db").read_bytes() == before


def test_a_home_without_a_record_says_what_to_do(home: Workspace, run: Run, tmp_path: Path) -> None:
    for command in (["campaigns"], ["policy"], ["approve", "small", "--yes"], ["forget", "small"]):
        ran = run("agent", *command, "--home", tmp_path / "elsewhere")
        assert (ran.code, "holds no identity" in ran.err) == (1, True), command
    (home.home / "record.db").unlink()
    ran = run("agent", "campaigns", "--home", home.home)
    assert (ran.code, "record.db cannot be used" in ran.err) == (1, True)


def test_the_list_of_campaigns_keeps_ids_whole_whatever_the_names_are(home: Workspace, run: Run) -> None:
    ids = [f"{number:032x}" for number in (1, 2)]
    for campaign_id in ids:
        known = known_campaign(data={"name": "d" * 63}, rounds=100_000)
        record = home.record.campaigns
        record.add(campaign_id, known.coordinator, known.spec_sha256, known.spec, known.terms)
    ran = run("agent", "campaigns", "--home", home.home)
    table, _, below = ran.out.partition("\n\n")
    assert max(map(len, table.splitlines())) <= 80
    assert all(each in table for each in (*ids, "0/100000", "2/3", "accepted by you", "waits for you"))
    assert below.count(f"fedloom agent approve {known.spec_sha256}") == 2
    verbose = run("agent", "campaigns", "--verbose", "--home", home.home)
    assert max(map(len, verbose.out.partition(" waits for you. Look")[0].splitlines())) <= 80


def test_benchmarks_of_a_campaign_are_told_with_those_that_would_not_run(home: Workspace, run: Run) -> None:
    finance.fpb(home.home / "evaluation-data", n=40)
    file = home.home / "measured.yaml"
    tasks = ["fpb_likelihood", "tfns", "gsm8k"]
    file.write_text(yaml.safe_dump(campaign_body(evaluation={"every": 1, "tasks": tasks, "limit": 3})))
    set_policy(home, 'suites = ["finance", "fpb_likelihood"]\n')
    told = run("agent", "policy", "--explain", file, "--home", home.home)
    assert told.code == 0
    assert "benchmark fpb_likelihood would run here, on 3 of 1,212 items" in told.out
    assert "benchmark gsm8k would not run here: policy.suites does not name it" in told.out
    assert "benchmark tfns would not run here: put tfns/sent_valid.csv into" in told.out
    found = json.loads(run("agent", "policy", "--explain", file, "--json", "--home", home.home).out)["benchmarks"]
    assert [each["name"] for each in found if not each["not_run"]] == ["fpb_likelihood"]


def test_benchmarks_that_ran_are_counted_apart_and_shown(home: Workspace, run: Run) -> None:
    adapter = BenchmarkedAdapter("c1", 0, 1, "a" * 64)
    home.record.benchmarks.begin(adapter, ["fpb"])
    score = {"name": "fpb", "items_sha256": "b" * 64, "n": 4, "n_asked": 4, "values": {"fpb.acc": 0.25}}
    home.record.benchmarks.keep(adapter, [BenchmarkScore.model_validate(score)])
    [totals] = json.loads(run("agent", "policy", "--json", "--home", home.home).out)["campaigns"]
    assert (totals["benchmarks"], totals["evaluations"], totals["trainings"]) == (1, 1, 2)
    shown = run("agent", "campaigns", "c1", "--home", home.home).out
    assert "adapter 1, fpb: acc 25.0% on 4 of 4 items" in shown
    assert "BENCHMARKS" in run("agent", "campaigns", "--home", home.home).out
    [line] = json.loads(run("agent", "campaigns", "--json", "--home", home.home).out)
    assert line["benchmarks"]["1"][0]["values"] == {"fpb.acc": 0.25}
