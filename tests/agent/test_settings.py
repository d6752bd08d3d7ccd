"""agent.toml: each error names its file and its field."""

from pathlib import Path

import pytest

from agent.configuration.settings import AgentSettings, EvaluationSettings, load_settings
from agent.configuration.template import TEMPLATE
from agent.errors import SettingsError, TaskFailed
from shared.wire.tasks.leases import FailureKind


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[compute]\ndevice = 'cuda:١'", "line 2: compute.device: must be auto, cpu, mps, cuda, or a GPU such as"),
        ("[compute]\ndevice = 'tpu'", "line 2: compute.device: must be auto, cpu, mps, cuda, or a GPU such as cuda:1"),
        ("[compute]\nmicro_batch = 0", "line 2: compute.micro_batch: must be at least 1"),
        (
            "[compute]\ntrainer = 'unsloth'",
            "line 2: compute.trainer: no trainer 'unsloth' is installed here; installed are trl. Install the",
        ),
        ("[compute]\nhub_kernels = 'trusted'", "line 2: compute.hub_kernels: must be true or false"),
        ("[compute]\n\nmax_lora_rank = 0", "line 3: compute.max_lora_rank: must be at least 1"),
        ("[compute]\nthreads = 'four'", "line 2: compute.threads: must be a whole number"),
        ("compute.threads = 'four'", "line 1: compute.threads: must be a whole number"),
        (
            '[policy]\nsuites = ["finance", "gsm8"]',
            "line 2: policy.suites: there is no suite and no benchmark 'gsm8'; did you mean 'gsm8k'?",
        ),
        ("[policy]\nmax_step = 3", "line 2: policy.max_step: there is no such setting; did you mean 'max_steps'?"),
        ("[policy]\nremote_code = 'perhaps'", "line 2: policy.remote_code: must be true or false"),
        ("# first\n[polcy]", "line 2: polcy: there is no such setting; did you mean 'policy'?"),
        (
            "[cache]\nquux = 1",
            "line 2: cache.quux: there is no such setting; known here are max_bytes",
        ),
        ("policy = 3", "line 1: policy: must be a table"),
        ("data = 3", "line 1: data: must be a table"),
        ("[models]\n'a/b' = 3", "line 2: models.a/b: must be text in quotes"),
        ("[models]\na = '~nobody-of-that-name/x'", "line 2: models.a: starts with ~ and the name of a user"),
        ("[network]\ntimeout_s = 0", "line 2: network.timeout_s: must be at least 1"),
        ("[network]\nresult_timeout_s = 'long'", "line 2: network.result_timeout_s: must be a number"),
        ("[network]\nread_timeout_s = 3", "line 2: network.read_timeout_s: there is no such setting"),
        ("# x\n[compute\n", "line 2: not TOML: "),
        ('[models]\na = "C:\\data"', "line 2: a backslash begins an escape; write the path in single quotes"),
        ('[models]\na = "C:\\Users"', "line 2: a backslash begins an escape; write the path in single quotes"),
        ("[models]\na = b", "line 2: the value cannot be read; text must be in quotes"),
        ("[compute]\nthreads = 1\nthreads = 2", "line 3: this setting or table is given twice; remove one"),
        ("[compute]\n[policy]\n[compute]", "line 3: this setting or table is given twice; remove one"),
        ("a = " + "[" * 3000 + "]" * 3000, ": the file is too deeply nested"),
    ],
)
def test_an_error_outside_the_data_names_the_line_and_the_setting_and_stops(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert str(caught.value).removeprefix(f"{path}").lstrip(", ").startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data.d]\nprompt = 'q'", "line 1: data.d: set either path or hub, or a preset"),
        ("[data.'no good']\npath = 'x'", "line 1: data.no good: a name has only letters, digits"),
        ("[data.d]\npath = 'x'\nheld_out = 1.0", "line 3: data.d.held_out: must be less than 1"),
        (
            "[data.d]\npath = 'x'\n\npromt = 'q'",
            "line 4: data.d.promt: there is no such setting; did you mean 'pro",
        ),
        ("[data.d]\npath = 'x'\nhub = 'a/b'", "line 1: data.d: set either path or hub, or a preset"),
        ("[data.d]\npreset = 'alpacca'", "line 2: data.d.preset: unknown preset 'alpacca'; known are alpaca,"),
        ("[data.d]\npath = 'x'\nencoding = 'latine'", "line 3: data.d.encoding: unknown encoding 'latine'"),
        ("[data.d]\npath = '~nobody-of-that-name/x'", "line 2: data.d.path: starts with ~ and the name of a user"),
        ("[data.d]\npath = 3", "line 2: data.d.path: must be text in quotes"),
        ("data.d = 3", "line 1: data.d: must be a table"),
        ("[data]\nd = { path = 'x', roles = { Nurse = 'nurse' } }", "line 2: data.d.roles.Nurse: must be 'system'"),
        ("[data.d]\npath = 'a.csv'\nheader = false", "line 3: data.d.header: name the columns of a table without"),
        (
            "[data.d]\npath = 'a.csv'\nheader = true\ncolumns = ['a', 'b']",
            "line 3: data.d.header: columns names those of a table without a header; remove one",
        ),
        ("[data.d]\npath = 'a.csv'\ncolumns = ['a', 'b', 'a']", "line 3: data.d.columns: names 'a' twice"),
        (
            "[data.d]\npath = 'a.jsonl'\ncolumns = ['a', 'b']",
            "line 3: data.d.columns: only a .csv or .tsv has",
        ),
        ("[data.d]\npath = 'a.parquet.gz'\nheader = true", "line 3: data.d.header: only a .csv or .tsv has a header"),
        ("[data.d]\npath = 'a.csv'\nprompt = 'completion'", "line 1: data.d.completion: names the column 'completion'"),
        ("[data.d]\npath = 'a.csv'\nchosen = 'rejected'", "line 1: data.d.rejected: names the column 'rejected'"),
        ("[data.d]\npath = 'a.csv'\nroles = { Bot = 'user', bot = 'user' }", "line 3: data.d.roles: names 'bot' twice"),
    ],
)
def test_an_error_in_one_data_table_names_line_and_setting_and_makes_only_that_data_unusable(
    tmp_path: Path, text: str, message: str
) -> None:
    settings = load_settings(write(tmp_path, f"{text}\n[data.good]\npath = 'y.jsonl'\n[policy]\nmax_steps = 3"))
    ((name, problems),) = settings.broken_data.items()
    assert str(problems[0]).startswith(message)
    assert settings.source("good") == settings.data["good"]
    assert (list(settings.data), settings.policy.max_steps) == (["good"], 3)
    with pytest.raises(TaskFailed) as caught:
        settings.source(name)
    assert caught.value.failure.kind == FailureKind.DATA
    assert str(caught.value).startswith(f"agent.toml, {message}")
    line = message.partition(":")[0]
    leaves = f"data.{name}: its table in agent.toml cannot be used ({line}): correct it"
    assert caught.value.failure.message == leaves
    assert settings.source("gone") is None


def test_every_problem_of_a_file_is_told_at_once_by_line(tmp_path: Path) -> None:
    path = write(tmp_path, "[policy]\nmax_step = 3\n[data.d]\npromt = 'x'\n[compute]\nthreads = 0\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        f"{path}, line {number}" for number in (2, 4, 6)
    ]


def test_two_problems_of_one_table_are_both_told(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "[data.d]\nencoding = 'x-y'\ncolumns = ['a']\nheader = true\nhub = 'a/b'"))
    assert [(problem.line, problem.field) for problem in settings.broken_data["d"]] == [
        (2, "data.d.encoding"),
        (4, "data.d.header"),
        (3, "data.d.columns"),
    ]


def test_a_missing_or_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        load_settings(tmp_path / "agent.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\x00")
    with pytest.raises(SettingsError, match="the file is not UTF-8 text; save it as UTF-8"):
        load_settings(tmp_path / "bytes.toml")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path)


def test_the_template_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(TEMPLATE)
    folder = EvaluationSettings(data=tmp_path / "evaluation-data")
    assert load_settings(path) == AgentSettings(evaluation=folder)


def test_paths_count_from_the_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(
        "[models]\ntiny = 'm'\n[data.notes]\npath = 'a.jsonl'\nheld_out_path = '/b.jsonl'\n"
        "template = 'own.jinja'\n[data.public]\npreset = 'alpaca'\n"
    )
    settings = load_settings(path)
    assert settings.models == {"tiny": tmp_path / "m"}
    assert settings.data["notes"].path == tmp_path / "a.jsonl"
    assert settings.data["notes"].held_out_path == Path("/b.jsonl")
    assert settings.data["notes"].template == tmp_path / "own.jinja"
    assert (settings.data["public"].path, settings.data["public"].hub) == (None, "tatsu-lab/alpaca")
