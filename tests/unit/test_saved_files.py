"""Every text file that a person may have saved is read with any byte-order mark, and the mark is not part of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.configuration.settings import load_settings
from agent.data.own_template import OwnTemplate
from fedloom.comparison.spec import read_comparison
from shared.campaign.file import read_campaign_file
from shared.network.tls import context_trusting
from shared.text.text_file import read_text

trustme = pytest.importorskip("trustme")

CAMPAIGN = """\
name: clinic  # of café
base:
  model: HuggingFaceTB/SmolLM2-135M-Instruct
training:
  steps: 10
data:
  name: notes
rounds: 3
"""
COMPARISON = """\
name: contest  # of café
campaign: campaign.yaml
settings: agent.toml
clients: 2
partition: {kind: iid}
validation: validation.jsonl
test: test.jsonl
"""


def authorities(path: Path) -> object:
    return [sorted(each) for each in context_trusting(path).get_ca_certs()]


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "agent.toml": ('[data.d] # café\npath = "rows.jsonl"\nprompt = "é"\n', load_settings),
    "campaign.yaml": (CAMPAIGN, read_campaign_file),
    "comparison.yaml": (COMPARISON, read_comparison),
    "own.jinja": ("{{ messages[0]['content'] }} café\n", OwnTemplate.read),
    "ca.pem": (f"# café\n{trustme.CA().cert_pem.bytes().decode()}", authorities),
    "any.txt": ("café\n\ufeffx", read_text),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_file_with_a_byte_order_mark_is_the_file_without(
    tmp_path: Path, name: str, encoding: str, line_end: str
) -> None:
    text, read = READERS[name]
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    without = read(path)
    path.write_bytes(text.replace("\n", line_end).encode(encoding))
    assert read(path) == without


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_both_byte_orders_are_read(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(mark + "é".encode("utf-16-le" if mark == b"\xff\xfe" else "utf-16-be"))
    assert read_text(path) == "é"


def test_no_file_of_a_person_is_read_without_the_mark() -> None:
    """A new reader of text belongs to ``shared.text.text_file``; these read what Fedloom itself wrote."""
    root = Path(__file__).parents[2]
    own = {
        "agent/train/process/memory.py",
        "coordinator/engine/identity.py",
        "fedloom/cli/evaluation/evaluate.py",
        "fedloom/evaluation/tasks/files/known_files.py",
        "fedloom/run_folder.py",
        "shared/crash_points.py",
        "shared/text/text_file.py",
    }
    found = {
        str(path.relative_to(root))
        for package in ("agent", "coordinator", "fedloom", "shared")
        for path in (root / package).rglob("*.py")
        if ".read_text(" in path.read_text(encoding="utf-8")
    }
    assert found <= own
