"""The command without a coordinator: where none is needed, and where none answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedloom.cli import Commands
from tests.cli.conftest import Run
from tests.support.command_line import tree
from tests.support.server import free_port

ROOT = Path(__file__).parents[2]


def in_a_process(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **env}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_help_lists_the_groups_and_the_exit_codes(run: Run) -> None:
    ran = run("--help")
    assert ran.code == 0
    for word in ("campaign", "agent", "token", "adapter", "algorithm", "storage", "Exit codes: 0 done"):
        assert word in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80


@pytest.mark.parametrize("group", ["campaign", "agent", "token", "adapter", "algorithm", "storage"])
def test_every_group_has_help(run: Run, group: str) -> None:
    assert run(group, "--help").code == 0


def test_the_commands_of_data_owners_and_of_operators_are_listed_apart(run: Run) -> None:
    _, _, owners = run("agent", "--help").out.partition("Data owner")
    owners, _, operators = owners.partition("Operator")
    first_words = [{line.strip("│ ").split(" ")[0] for line in part.splitlines()} for part in (owners, operators)]
    assert {"enroll", "run", "approve", "policy"} <= first_words[0]
    assert {"list", "show", "revoke"} <= first_words[1]


def test_help_imports_nothing_that_is_slow() -> None:
    ran = in_a_process(
        "import sys; sys.argv = ['fedloom', '--help']\n"
        "from fedloom.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "absent = ('httpx', 'numpy', 'pydantic', 'asyncio', 'torch', 'transformers', 'coordinator', 'agent')\n"
        "print([name for name in absent if name in sys.modules])\n"
        "print([name for name in sys.modules if name.startswith('fedloom.cli.') and name.count('.') > 2])"
    )
    assert ran.stdout.splitlines()[-2:] == ["[]", "[]"], ran.stderr


def test_each_line_of_the_help_is_the_first_of_its_commands_own() -> None:
    for name, command in tree().commands.items():
        assert " ".join(command.help.partition("\n\n")[0].split()) == Commands.later[name].line


def test_the_client_imports_neither_torch_nor_the_two_sides() -> None:
    ran = in_a_process(
        "import sys, fedloom; fedloom.Client, fedloom.CampaignSpec, fedloom.errors\n"
        "print([name for name in ('torch', 'transformers', 'peft', 'trl', 'coordinator', 'agent') "
        "if name in sys.modules])"
    )
    assert ran.stdout == "[]\n", ran.stderr


def test_version_is_that_of_the_installed_distribution(tmp_path: Path) -> None:
    info = tmp_path / "fedloom-9.8.7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fedloom\nVersion: 9.8.7\n")
    code = "import sys; sys.argv = ['fedloom', '--version']; from fedloom.cli import main; main()"
    ran = in_a_process(code, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert ran.stdout == "fedloom 9.8.7\n", ran.stderr


def test_a_missing_name_is_an_attribute_error() -> None:
    import fedloom

    with pytest.raises(AttributeError, match="nothing"):
        _ = fedloom.nothing


def test_dry_run_accepts_a_good_file_without_any_coordinator(run: Run, campaign_file: Path) -> None:
    ran = run("campaign", "create", campaign_file, "--dry-run")
    measured = "each adapter is evaluated on held-out rows after every round"
    assert (ran.code, ran.out) == (0, f"{campaign_file} is valid: small, 1 round of fedavg\n{measured}\n")
    assert json.loads(run("campaign", "create", campaign_file, "--dry-run", "--json").out)["lora"]["rank"] == 2


@pytest.mark.parametrize(("rounds", "words"), [(1, "1 round"), (5, "5 rounds")])
def test_dry_run_says_that_updates_are_kept(run: Run, campaign_file: Path, rounds: int, words: str) -> None:
    campaign_file.write_text(campaign_file.read_text() + f"retention: {{updates: {rounds}}}\n")
    ran = run("campaign", "create", campaign_file, "--dry-run")
    kept = f"it keeps each agent's update for {words} (retention.updates), which owners must allow"
    assert kept in ran.out.splitlines()


def test_dry_run_says_that_updates_are_rounded(run: Run, campaign_file: Path) -> None:
    campaign_file.write_text(campaign_file.read_text() + "wire: bfloat16\n")
    ran = run("campaign", "create", campaign_file, "--dry-run")
    assert "its agents round updates to bfloat16 before they send them (wire)" in ran.out.splitlines()


def test_each_problem_of_a_file_is_a_line_with_file_line_and_field(run: Run, campaign_file: Path) -> None:
    campaign_file.write_text("name: x\nbase:\n  modle: y\ntraining:\n  steps: 0\ndata:\n  name: d\nrounds: 2\n")
    for options in ([], ["--dry-run"]):
        ran = run("campaign", "create", campaign_file, *options)
        assert ran.code == 2
        assert ran.err.splitlines() == [
            f"{campaign_file}, line 2: base.model: this field is needed",
            f"{campaign_file}, line 3: base.modle: unknown field; did you mean 'model'?",
            f"{campaign_file}, line 5: training.steps: Input should be greater than or equal to 1",
        ]


def test_a_missing_file(run: Run, tmp_path: Path) -> None:
    ran = run("campaign", "create", tmp_path / "none.yaml")
    assert (ran.code, ran.err) == (2, f"fedloom: {tmp_path}/none.yaml: No such file or directory\n")


def test_a_key_that_no_header_can_carry_is_not_shown(run: Run) -> None:
    refused = run("--key", "flo_secret\nflo_other", "campaign", "list")
    assert refused.code == 4
    assert "line break" in refused.err
    assert "flo_" not in refused.err


def test_a_coordinator_that_cannot_be_reached(run: Run) -> None:
    ran = run("--url", f"http://127.0.0.1:{free_port()}", "campaign", "list")
    assert ran.code == 3
    assert len(ran.err.splitlines()) == 1
    assert "is the coordinator running there?" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["campaign", "show"],
        ["storage", "--nope"],
        ["--url", "http://example.org", "storage"],
        ["--ca-file", "/nope", "storage"],
        ["token", "create", "--label", "x"],
        ["token", "create", "--days", "9999"],
        ["adapter", "pull", "c", "--out", "x", "--adapter", "newest"],
    ],
)
def test_wrong_usage_exits_with_2(run: Run, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.err


def test_an_unknown_partition_is_refused_with_the_known_ones(run: Run, campaign_file: Path) -> None:
    ran = run("simulate", campaign_file, "--clients", 3, "--partition", "non-iid")
    assert ran.code == 2
    for kind in ("iid", "dirichlet", "quantity", "key", "domain"):
        assert kind in ran.err


def test_a_simulation_has_no_other_campaigns_to_start_from(run: Run, campaign_file: Path) -> None:
    campaign_file.write_text(campaign_file.read_text() + "start_from: taught/final\n")
    (campaign_file.parent / "agent.toml").write_text('[data.notes]\npath = "rows.jsonl"\n')
    ran = run("simulate", campaign_file, "--clients", 2)
    assert ran.code == 2
    assert "the campaign starts from taught/final, an adapter that only its own coordinator has" in ran.err
