"""agent.toml: each error names its file and its field."""

from pathlib import Path

import pytest

from agent.errors import SettingsError
from agent.settings import TEMPLATE, AgentSettings, load_settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data.notes]\nprompt = 'q'", "data.notes: .*path or hub"),
        ("[data.'no good']\npath = 'x'", "data.no good: a name has at most 63 letters"),
        ("[compute]\ndevice = 'tpu'", "compute.device: must be auto, cpu, mps, cuda, or a GPU such as cuda:1"),
        ("[compute]\nmicro_batch = 0", "compute.micro_batch: must be at least 1"),
        ("[compute]\nmax_lora_rank = 0", "compute.max_lora_rank: must be at least 1"),
        ("[compute]\nthreads = 'four'", "compute.threads: must be a whole number"),
        ("[policy]\nmax_step = 3", "policy.max_step: there is no such setting"),
        ("[polcy]", "polcy"),
        ("[network]\ntimeout_s = 0", "network.timeout_s: must be at least 1"),
        ("[network]\nresult_timeout_s = 'long'", "network.result_timeout_s"),
        ("[network]\nread_timeout_s = 3", "network.read_timeout_s"),
        ("[data.notes]\npath = 'x'\nheld_out = 1.0", "data.notes.held_out"),
        ("[compute\n", "line 1"),
        ("[data.notes]\npath = 'x'\nhub = 'a/b'", "data.notes: .*either path or hub"),
        ("[data.notes]\npreset = 'alpacca'", "data.notes: .*unknown preset 'alpacca'; known are alpaca, alpaca-gpt4"),
        ("[data.notes]\npath = 'x'\nencoding = 'latine'", "data.notes: .*encoding: unknown encoding 'latine'"),
        ("[data.notes]\npath = '~nobody-of-that-name/x'", "home"),
    ],
)
def test_an_error_names_the_file_and_the_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_or_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        load_settings(tmp_path / "agent.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for name in ("bytes.toml", "."):
        with pytest.raises(SettingsError):
            load_settings(tmp_path / name)


def test_the_template_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(TEMPLATE)
    assert load_settings(path) == AgentSettings()


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
