"""Models with faults that no configuration names: found when the agent prepares, and never trained on in silence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from agent.errors import TaskFailed
from agent.orders.job_files import ADAPTER_FILE
from agent.train.data.tokens import TokenRows
from agent.train.suitability.probe import plain_log_probabilities, probe_rows
from shared.campaign.spec import BaseSection
from shared.wire.leases import FailureKind
from tests.support.tiny import byte_level_bpe
from tests.train.conftest import Lab
from tests.train.suitability import modeling_odd

pytestmark = pytest.mark.train


@pytest.fixture
def odd_lab(new_lab: Callable[..., Lab], tmp_path: Path) -> Callable[[str], Lab]:
    """Makes a lab whose model has an oddity."""

    def make(oddity: str) -> Lab:
        tokenizer = byte_level_bpe()
        torch.manual_seed(0)
        config = modeling_odd.OddConfig(
            oddity=oddity,
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            initializer_range=0.1,
            eos_token_id=tokenizer.eos_token_id,
        )
        folder = tmp_path / oddity
        modeling_odd.OddForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        shutil.copyfile(Path(modeling_odd.__file__), folder / "modeling_odd.py")
        names = {"AutoConfig": "modeling_odd.OddConfig", "AutoModelForCausalLM": "modeling_odd.OddForCausalLM"}
        raw = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(raw | {"auto_map": names}))
        lab = new_lab()
        lab.model = folder
        return lab

    return make


def work(lab: Lab, job: Any, **changes: Any) -> Any:
    return lab.run(lab.work(job, remote_code=True, **changes))


@pytest.mark.parametrize(
    ("oddity", "reason"),
    [
        ("peeks", "sees the tokens that it is to predict"),
        ("mixes", "its loss in a batch of padded rows differs from that of single rows by"),
        (
            "spare",
            "does not depend on the adapters of the layer spare; set lora.target_modules in the campaign to others",
        ),
        ("stiff", "its gradient cannot be computed (RuntimeError"),
        ("overflows", "its logits are not finite in float32"),
        ("fails", "it fails on text alone (ValueError; see the agent's log of this task)"),
        ("trains-badly", "one step of sft fails with ValueError"),
    ],
)
def test_a_faulty_model_is_refused_in_prepare_with_the_reason(
    odd_lab: Callable[[str], Lab], oddity: str, reason: str
) -> None:
    lab = odd_lab(oddity)
    with pytest.raises(TaskFailed) as caught:
        work(lab, lab.prepare_job())
    assert caught.value.failure.kind == FailureKind.BASE_MODEL
    assert reason in caught.value.failure.message
    assert "secret" not in caught.value.failure.message


@pytest.mark.parametrize("oddity", ["warmer", "capped"])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_head_of_unknown_form_is_trained_on_its_own_logits(
    odd_lab: Callable[[str], Lab], oddity: str, kind: str
) -> None:
    """The loss of each step falls as plain transformers has it, and so does that of an evaluation."""
    lab = odd_lab(oddity)
    prepared = work(lab, lab.prepare_job(training_kind=kind))
    assert "own head" in " ".join(prepared.notices)
    lab.fingerprint = prepared.fingerprint
    init = lab.work(lab.init_job(), remote_code=True)
    lab.run(init)
    adapter = init.folder / ADAPTER_FILE
    trained = work(lab, lab.train_job(adapter, training_kind=kind, steps=16, learning_rate=1e-2), adapter=adapter)
    assert trained.metrics["train_loss_last"] < trained.metrics["train_loss_first"]
    if kind == "dpo":
        assert trained.metrics["train_loss_first"] == pytest.approx(0.6931, abs=1e-3)
        return
    evaluated = work(lab, lab.evaluate_job(adapter), adapter=adapter)
    held_out = lab.worker.warm.data._in_memory.popitem()[1].held_out.completions
    assert evaluated.metrics["held_out_loss"] == pytest.approx(plain_loss(lab.model, held_out), abs=1e-3)


def plain_loss(folder: Path, rows: TokenRows) -> float:
    """The loss of the bare model, which an adapter with B = 0 is, in nats a token."""
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    assert type(model).__name__ == "OddForCausalLM"
    sums = plain_log_probabilities(model, rows, torch.device("cpu"))
    return float(-sums.sum() / rows.n_supervised.sum())


def test_a_verdict_is_measured_once_for_each_base_and_adapter(
    new_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.train.suitability import verdicts

    measured: list[Any] = []
    measure = verdicts.measure
    monkeypatch.setattr(verdicts, "measure", lambda *args, **named: (measured.append(args), measure(*args, **named))[1])
    lab = new_lab()
    lab.run(lab.work(lab.prepare_job()))
    lab.run(lab.work(lab.prepare_job(base=BaseSection(model="another/name"))))
    assert len(measured) == 1, "a name is no part of a model"
    lab.run(lab.work(lab.prepare_job(lora={"rank": 2, "target_modules": ["q_proj"]})))
    assert len(measured) == 2
    (kept,) = [file for file in (lab.folder / "cache").glob("suitability-*") if "q_proj" not in file.name][:1]
    for file in (lab.folder / "cache").glob("suitability-*"):
        file.write_text(kept.read_text()[:-3])
    lab.run(lab.work(lab.prepare_job()))
    assert len(measured) == 3, "a damaged verdict is measured again"


def test_probe_rows_are_short_of_different_lengths_and_supervised_in_part() -> None:
    long = (list(range(200)), [True] * 200)
    short = ([1, 2], [False, True])
    assert list(probe_rows(TokenRows.of([long])).lengths) == [64, 58, 52]
    assert (probe_rows(TokenRows.of([short, long])).n_supervised >= 1).all()
    assert len(probe_rows(TokenRows.of([([7], [False])]))) == 0
