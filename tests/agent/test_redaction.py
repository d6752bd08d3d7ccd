"""The second net: a name that slipped into a text is taken out, unless the coordinator sent it itself."""

import getpass
import socket
from pathlib import Path

import pytest

from agent.configuration.settings import AgentSettings
from agent.data.source import DataSource
from agent.network.redaction import Redactor
from agent.workspace import Workspace
from shared.wire.tasks.leases import Failure, FailureKind
from shared.wire.tasks.results import Fingerprint, PrepareResult


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "oncology-7"
    (folder / "parts").mkdir(parents=True)
    (folder / "parts" / "Mueller-2.csv").write_text("")
    return folder


@pytest.fixture
def settings(folder: Path) -> AgentSettings:
    data = {
        "notes": DataSource(path=folder / "hiv-patients-Mueller.jsonl", template=folder / "own_Mueller.jinja"),
        "parts": DataSource(path=folder / "parts"),
        "alpaca": DataSource(hub="clinic/private-rows"),
    }
    return AgentSettings(models={"org/tiny": folder / "llama-Mueller"}).model_copy(update={"data": data})


def redacted(settings: AgentSettings, folder: Path, text: str, known: str = "") -> str:
    return Redactor(settings, Workspace(folder / "home-of-Mueller"), known).text(text)


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        ("OSError: '/home/mueller/x y/z.txt' is gone", "OSError: … is gone"),
        ("see /home/mueller/logs/a.log for more", "see … for more"),
        ("see /home/mueller/logs/a.log.", "see …."),
        ("no config (~/hf/hub): again", "no config (…): again"),
        ("from ../../private/pin.txt, line 3", "from …, line 3"),
        ("at C:\\Users\\Mueller\\x.csv", "at …"),
        ("at \\\\server\\share\\x", "at …"),
        ("via http://user:secret@proxy:3128/x", "via http:…"),
        ("file:///etc/passwd is read", "… is read"),
        ("hiv-patients-Mueller.jsonl: line 3", "a file of data.notes: line 3"),
        ("HIV-Patients-Mueller: line 3", "a file of data.notes: line 3"),
        ("the template own_Mueller.jinja is broken", "the template a file of data.notes is broken"),
        ("Mueller-2.csv: line 1", "a file of data.parts: line 1"),
        ("clinic/private-rows: no such data set", "data.alpaca: no such data set"),
        ("in llama-Mueller", "in …"),
        ("in oncology-7", "in …"),
    ],
)
def test_names_are_replaced(settings: AgentSettings, folder: Path, text: str, leaves: str) -> None:
    assert redacted(settings, folder, text) == leaves


@pytest.mark.parametrize(
    "text",
    [
        "data.notes: line 3 is not JSON (Invalid \\escape)",
        "map org/tiny to its folder under [models] in agent.toml",
        "training diverged, layers.0.q_proj.lora_A.weight: the learning rate may be too high",
        "the tokens </s> and [INST] act as control tokens; 3.5 tokens/s, and/or 1 / 2",
        'to allow it: kinds = ["sft", "dpo"]; pip install \'fedloom[agent]\'',
        "the parts, the data and the model",
    ],
)
def test_texts_without_names_stay_as_they_are(settings: AgentSettings, folder: Path, text: str) -> None:
    assert redacted(settings, folder, text) == text


def test_the_user_the_machine_and_values_of_variables_are_taken_out(
    settings: AgentSettings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "anna")
    monkeypatch.setattr(socket, "gethostname", lambda: "ward7.clinic.example")
    monkeypatch.setenv("HF_TOKEN", "hf_aBcDeFgH123")
    text = "anna at ward7 (ward7.clinic.example) has hf_aBcDeFgH123, and Hannah nothing"
    assert redacted(settings, folder, text) == "… at … (…) has …, and Hannah nothing"


def test_what_the_coordinator_sent_tells_it_nothing(settings: AgentSettings, folder: Path) -> None:
    """Were it replaced, a campaign could ask for words, and see which of them are names of this machine."""
    words = "org/hiv-patients-Mueller.jsonl and /etc/passwd and clinic/private-rows"
    known = '{"base": {"model": "org/hiv-patients-Mueller.jsonl"}, "x": ["/etc/passwd", "clinic/private-rows"]}'
    assert redacted(settings, folder, words, known) == words
    assert redacted(settings, folder, words) != words


def test_failures_and_notices_pass_through_the_net(settings: AgentSettings, folder: Path) -> None:
    net = Redactor(settings, Workspace(folder), known="")
    failure = net.failure(Failure.of(FailureKind.CRASH, "see /home/x/y"))
    assert (failure.kind, failure.message) == (FailureKind.CRASH, "see …")
    digests = Fingerprint(**dict.fromkeys(Fingerprint.model_fields, "a" * 64))
    result = PrepareResult(fingerprint=digests, rank=1, n_train=1, n_held_out=0, notices=["/home/x/y is not read"])
    cleaned = net.result(result)
    assert isinstance(cleaned, PrepareResult)
    assert cleaned.notices == ["… is not read"]
    assert cleaned.model_copy(update={"notices": result.notices}) == result
