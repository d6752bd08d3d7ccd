"""What cannot run is told in one line, and before the base model has been asked anything."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fedloom.adapters.folder import WEIGHTS_FILE
from fedloom.adapters.lineage import LINEAGE_FILE, Lineage, Protection
from shared.campaign.spec import CampaignSpec
from shared.digest import sha256_file
from shared.wire.tasks.results import Fingerprint
from tests.evaluation.command.conftest import Start, replies_in
from tests.evaluation.command.test_stops import ENDLESS
from tests.support.processes import ROOT

pytestmark = [pytest.mark.deep, pytest.mark.train]

QUICKSTART = ROOT / "examples" / "quickstart" / "model"


def of_campaign(adapter: Path, folder: Path, base: str) -> Path:
    """A copy of the adapter that names the files of the base model that it was trained on."""
    shutil.copytree(adapter, folder)
    sections = {"base": {"model": base}, "lora": {"rank": 4, "alpha": 8}, "data": {"name": "notes"}}
    spec = CampaignSpec.model_validate({"name": "clinic", "training": {"steps": 1}, "rounds": 1, **sections})
    lineage = Lineage(
        campaign_id="c1",
        campaign_name="clinic",
        spec=spec,
        adapter_number=1,
        sha256=sha256_file(folder / WEIGHTS_FILE),
        metrics=[],
        fingerprint=Fingerprint(weights="1" * 64, config="2" * 64, tokenizer="3" * 64, template="4" * 64),
        protection=Protection(n_rounds=1, n_clients=3, least_updates=3),
    )
    (folder / LINEAGE_FILE).write_text(lineage.model_dump_json())
    return folder


def without_waits(said: str) -> list[str]:
    """The lines that say something else than what the base model waits for."""
    return [line for line in said.splitlines() if not line.startswith("base model: ")]


def test_an_adapter_of_another_shape(start: Start, adapter: Path, data: Path, tmp_path: Path) -> None:
    ran = start(adapter, "--base", QUICKSTART, "--tasks", "rows", "--data", data, "--out", tmp_path / "out")
    assert ran.ended() == 2
    [line] = without_waits(ran.said)
    assert "base model: loading model" in ran.said.splitlines()
    assert line.startswith("fedloom: notes, on ")
    assert "the adapter does not fit this base model" in line
    assert len(replies_in(tmp_path / "out")) == 1, "the base's word"


def test_an_adapter_of_other_files(start: Start, adapter: Path, base: Path, data: Path, tmp_path: Path) -> None:
    mine = of_campaign(adapter, tmp_path / "mine", "tiny/llama")
    ran = start(mine, "--base", base, "--tasks", "rows", "--data", data, "--out", tmp_path / "out")
    assert ran.ended() == 2
    [line] = without_waits(ran.said)
    assert "mine was trained on tiny/llama, and " in line
    assert "differs from that in its weights, config, tokenizer, template: give the folder" in line


def test_adapters_on_two_bases(
    start: Start, adapter: Path, new_adapter: Callable[..., Path], data: Path, tmp_path: Path
) -> None:
    ran = start(adapter, new_adapter(QUICKSTART, "words"), "--tasks", "rows", "--data", data, "--out", tmp_path / "out")
    assert ran.ended() == 2
    [line] = without_waits(ran.said)
    assert line.endswith("evaluate them apart, since only models on one base are compared item by item")


@pytest.mark.parametrize("name", ["/no/such/folder", "no/such-model"])
def test_a_base_that_is_nowhere(start: Start, name: str, data: Path, tmp_path: Path) -> None:
    ran = start("--base", name, "--tasks", "rows", "--data", data, "--out", tmp_path / "out")
    assert ran.ended() == 1
    [line] = without_waits(ran.said)
    assert line.startswith("fedloom: ")
    assert "give the model's folder with --base" in line


def test_what_is_missing_is_told_first_and_the_rest_goes_on(
    start: Start, base: Path, data: Path, tmp_path: Path
) -> None:
    """No bubblewrap, no chat template, no data: each task says so, and the others run."""
    plain = shutil.copytree(base, tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    (tmp_path / "endless.py").write_text(ENDLESS)
    tasks = "rows,rows_chat,endless.py:Endless,gsm8k"
    options = ("--base", plain, "--data", data, "--out", tmp_path / "out", "--limit", 2, "--tasks", tasks)
    ran = start(*options, PATH=str(tmp_path))
    assert ran.ended() == 0
    lines = without_waits(ran.said)
    assert lines[0].startswith("endless: not run: Code that a model writes runs in bubblewrap, and bwrap is not ")
    assert "apt install bubblewrap" in lines[0]
    assert "--run-untrusted-code" in lines[0]
    assert lines[1].startswith("gsm8k: not run: put gsm8k/")
    assert lines[2].startswith("rows: exact base 0.0")
    assert lines[3].startswith("rows_chat: not run: the tokenizer of ")
    assert lines[3].endswith(" has no chat template, which this task needs")
    assert len(replies_in(tmp_path / "out")) == 2


def test_without_the_harness_nothing_is_loaded(start: Start, data: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'lm_eval' else find(name, package)\n"
    )
    (data / "truthfulqa").mkdir()
    options = {"Yes.": 1, "No.": 0}
    rows = [{"question": "Is it?", "mc1_targets": options, "mc2_targets": options}]
    (data / "truthfulqa" / "mc_task.json").write_text(json.dumps(rows))
    arguments = ("--base", "/no/such/model", "--tasks", "truthfulqa_mc2", "--data", data, "--out", tmp_path / "out")
    ran = start(*arguments, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert ran.ended() == 1
    assert ran.said == "fedloom: lm-evaluation-harness is not installed; run: pip install 'fedloom[eval]'\n"
