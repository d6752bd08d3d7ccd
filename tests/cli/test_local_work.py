"""``adapter merge`` and ``chat`` on a tiny model, each with a real training child."""

import io
import json
import os
import pty
import select
import shutil
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from fedloom.adapters.folder import CONFIG_FILE, WEIGHTS_FILE, peft_config
from fedloom.adapters.lineage import LINEAGE_FILE, Lineage
from fedloom.adapters.protection import Protection
from shared.adapters.files import AdapterFile
from shared.campaign.spec import CampaignSpec
from shared.digest import sha256_file
from shared.wire.tasks.results import Fingerprint
from tests.cli.conftest import Run
from tests.support.forks import quick_children
from tests.support.forks.preloaded import Preloaded

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.train

FEW = ("--max-new-tokens", 8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.tiny import make_model

    return make_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of adapter 10 of the campaign *clinic*, as ``adapter pull`` writes it."""
    folder = tmp_path_factory.mktemp("adapter")
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(folder)
    sections = {"base": {"model": str(base)}, "lora": {"rank": 4, "alpha": 8}, "data": {"name": "notes"}}
    spec = CampaignSpec.model_validate({"name": "clinic", "training": {"steps": 1}, "rounds": 10, **sections})
    with AdapterFile(folder / WEIGHTS_FILE) as file:
        (folder / CONFIG_FILE).write_text(json.dumps(peft_config(spec, file.tensors)))
    lineage = Lineage(
        campaign_id="c1",
        campaign_name="clinic",
        spec=spec,
        adapter_number=10,
        sha256=sha256_file(folder / WEIGHTS_FILE),
        metrics=[],
        fingerprint=None,
        protection=Protection(n_rounds=10, n_clients=3, least_updates=3),
    )
    (folder / LINEAGE_FILE).write_text(lineage.model_dump_json())
    return folder


def with_lineage(adapter: Path, folder: Path, **changes: Any) -> Path:
    """Copy the adapter with *changes* to its fedloom.json. Returns the copy."""
    shutil.copytree(adapter, folder)
    lineage = Lineage.model_validate_json((folder / LINEAGE_FILE).read_text()).model_copy(update=changes)
    (folder / LINEAGE_FILE).write_text(lineage.model_dump_json())
    return folder


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("agent.child.supervisor.DEFAULT_ARGV", tuple(quick_children.argv()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


# --- merge


def test_merge_writes_a_model_that_plain_transformers_loads(
    run: Run, base: Path, adapter: Path, tmp_path: Path
) -> None:
    out = tmp_path / "models" / "merged"
    ran = run("adapter", "merge", adapter, "--out", out)
    assert ran.code == 0, ran.err
    first, second = ran.out.splitlines()
    assert first.startswith(f"wrote clinic #10, merged into its base model, to {out} (")
    assert first.endswith(" kB, float32)")
    assert "differ from those of base and adapter by at most" in second
    assert [path.name for path in out.parent.iterdir()] == ["merged"]
    tokens = torch.tensor([[5, 6, 7, 8]])
    expected = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), adapter)
    merged = transformers.AutoModelForCausalLM.from_pretrained(out)
    with torch.no_grad():
        assert (merged(input_ids=tokens).logits - expected(input_ids=tokens).logits).abs().max() <= 1e-4
    assert transformers.AutoTokenizer.from_pretrained(out).chat_template
    card = (out / "README.md").read_text()
    assert "`clinic` (`c1`)" in card
    assert sha256_file(adapter / WEIGHTS_FILE) in card

    again = run("adapter", "merge", adapter, "--out", out, "--base", base)
    assert again.code == 1
    assert "--force" in again.err
    forced = run("adapter", "merge", adapter, "--out", out, "--force", "--dtype", "bfloat16", "--json")
    report = json.loads(forced.out)
    assert report["folder"] == str(out)
    assert report["merge_difference"] <= 1e-4 < report["file_difference"]
    assert transformers.AutoConfig.from_pretrained(out).dtype == torch.bfloat16


def test_merge_on_another_base_leaves_nothing(run: Run, adapter: Path, tmp_path: Path) -> None:
    fingerprint = Fingerprint(weights="0" * 64, config="0" * 64, tokenizer="0" * 64, template="0" * 64)
    other = with_lineage(adapter, tmp_path / "other", fingerprint=fingerprint)
    ran = run("adapter", "merge", other, "--out", tmp_path / "out" / "merged")
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 1
    assert "differs from the campaign's in its weights, config, tokenizer, template:" in ran.err
    assert list((tmp_path / "out").iterdir()) == []


def test_merge_does_not_overwrite_its_inputs(run: Run, base: Path, adapter: Path) -> None:
    for out in (adapter, base, base.parent):
        ran = run("adapter", "merge", adapter, "--out", out, "--force")
        assert ran.code == 2
        assert "choose another" in ran.err
    assert (base / "model.safetensors").exists()


# --- chat


def test_chat_answers_questions_and_ends(run: Run, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("--question", "What does the water do?", "--question", "Why?")
    ran = run("chat", adapter, *asked, "--json", *FEW)
    assert ran.code == 0, ran.err
    first, second = (json.loads(line) for line in ran.out.splitlines())
    assert list(first) == ["question", "base", "adapted"]
    assert (first["question"], second["question"]) == ("What does the water do?", "Why?")
    assert first["base"] != first["adapted"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n  What does the water do?\n\n"))
    piped = run("chat", adapter, *FEW)
    assert piped.out.splitlines()[0] == "ask> What does the water do?"
    assert f"[base]\n{first['base']}\n\n[adapted · clinic #10]\n{first['adapted']}\n" in piped.out


def test_chat_with_an_adapter_of_another_program(run: Run, base: Path, adapter: Path, tmp_path: Path) -> None:
    foreign = with_lineage(adapter, tmp_path / "foreign")
    (foreign / LINEAGE_FILE).unlink()
    ran = run("chat", foreign, "--base", base, "--template", "alpaca", "--question", "Why?", *FEW)
    assert ran.code == 0, ran.err
    assert "[adapted · foreign]" in ran.out


def test_chat_accepts_a_custom_template(run: Run, adapter: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}")
    asked = ("--question", "Why?", *FEW, "--json")
    own, named = (json.loads(run("chat", adapter, "--template", template, *asked).out) for template in (file, "alpaca"))
    assert own["base"] != named["base"]
    misspelt = run("chat", adapter, "--template", "alpacca", *asked)
    assert misspelt.code == 1
    assert "the template alpacca cannot be read" in misspelt.err


def test_chat_reports_an_error_on_one_line(
    run: Run, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Lineage.model_validate_json((adapter / LINEAGE_FILE).read_text()).spec
    gone = spec.model_copy(update={"base": spec.base.model_copy(update={"model": str(tmp_path / "gone")})})
    ran = run("chat", with_lineage(adapter, tmp_path / "moved", spec=gone), "--question", "Why?")
    assert ran.code == 1
    assert ran.err.startswith(f"fedloom: the folder of {tmp_path}/gone does not exist")
    assert "--base" in ran.err
    assert len(ran.err.splitlines()) == 1
    (tmp_path / "empty").mkdir()
    ran = run("chat", tmp_path / "empty", "--question", "Why?")
    assert ran.code == 2
    assert "fedloom adapter pull" in ran.err
    assert run("chat", tmp_path / "none").code == 2
    monkeypatch.setattr("agent.child.supervisor.CHILD_LIBRARIES", ("no_such_library",))
    ran = run("chat", adapter, "--question", "Why?")
    assert (ran.code, ran.err) == (1, "fedloom: no_such_library not installed; run: pip install 'fedloom[agent]'\n")


class Terminal:
    """A command that runs on a pseudo-terminal of 80 columns."""

    def __init__(self, *arguments: object) -> None:
        self._end, inner = pty.openpty()
        termios.tcsetwinsize(inner, (24, 80))
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = Preloaded(
            [sys.executable, "-m", "fedloom", *map(str, arguments)],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**environment, "TERM": "xterm", "PYTHONUNBUFFERED": "1", **quick_children.environment()},
        )
        os.close(inner)
        self._read = b""

    def until(self, text: str) -> str:
        """Wait until the output contains *text*. Returns the output so far."""
        ends_at = time.monotonic() + 120
        while text.encode() not in self._read:
            assert time.monotonic() < ends_at, self._read.decode(errors="replace")
            if select.select([self._end], [], [], 1)[0]:
                self._read += os.read(self._end, 1 << 16)
        written, _, self._read = self._read.partition(text.encode())
        return written.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def wait(self) -> int:
        """Wait for its end. Returns its exit code."""
        try:
            while os.read(self._end, 1 << 16):
                pass
        except OSError:  # the process has closed its end
            pass
        os.close(self._end)
        return self.process.wait(30)


@pytest.mark.parametrize("end", ["/quit\n", "\x04"], ids=["quit", "end of input"])
def test_chat_on_a_terminal(adapter: Path, end: str) -> None:
    terminal = Terminal("chat", adapter, *FEW)
    assert "loading" in terminal.until("Each question stands alone.")
    terminal.until("ask> ")
    terminal.type("\n")
    terminal.until("ask> ")
    terminal.type("What does the water do?\n")
    drawn = terminal.until("ask> ")
    assert "base" in drawn
    assert "adapted · clinic #10" in drawn
    terminal.type(end)
    assert terminal.wait() == 0
