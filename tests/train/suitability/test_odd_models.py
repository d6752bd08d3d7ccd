"""Models with faults that no configuration names: found when the agent prepares, and never trained on in silence."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from agent.errors import TaskFailed
from agent.orders.job_files import ADAPTER_FILE
from agent.train.data.sampling import sample_rows
from agent.train.data.tokens import TokenRows
from agent.train.suitability import verdicts
from agent.train.suitability.probe import plain_log_probabilities, probe_rows
from agent.train.trainer.packing import shares_beginnings
from agent.train.worker import Worker
from shared.campaign.spec import BaseSection, LoraSection
from shared.wire.tasks.leases import FailureKind
from tests.support.tiny import ROWS, byte_level_bpe
from tests.train.conftest import Lab, write_rows
from tests.train.suitability import modeling_odd
from tests.zoo.families import BY_NAME

pytestmark = pytest.mark.train

NO_DROPOUT = LoraSection(rank=4, alpha=8)


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


LONG = [{**row, "input": "and then the river rises again " * 6} for row in ROWS[:12]]


def work(lab: Lab, job: Any, **changes: Any) -> Any:
    return lab.run(lab.work(job, remote_code=True, **changes))


@pytest.mark.parametrize(
    ("oddity", "reason"),
    [
        ("peeks", "it attends to later tokens, as an encoder does: changing them changed earlier logits"),
        ("peeks-far", "it attends to later tokens"),
        ("mixes", "its loss in a batch of padded rows differs from that of single rows;"),
        (
            "spare",
            "does not depend on the adapters of the layer spare; set lora.target_modules in the campaign to others",
        ),
        ("idle", "does not depend on the adapters of the layer spare"),
        ("stiff", "it fails on text alone (RuntimeError"),
        ("overflows", "its logits are not finite in float32"),
        ("diverges", "its loss in training mode is not finite"),
        ("fails", "it fails on text alone (ValueError; see the agent's log)"),
        ("asserts", "it fails on text alone (AssertionError; see the agent's log)"),
        ("trains-badly", "one step of sft fails with ValueError"),
    ],
)
def test_a_faulty_model_is_refused_in_prepare_with_the_reason(
    odd_lab: Callable[[str], Lab], oddity: str, reason: str
) -> None:
    lab = odd_lab(oddity)
    lab.data = write_rows(lab.folder / "long.jsonl", LONG) if oddity == "peeks-far" else lab.data
    with pytest.raises(TaskFailed) as caught:
        work(lab, lab.prepare_job())
    assert caught.value.failure.kind == FailureKind.BASE_MODEL
    assert reason in caught.value.failure.message
    assert "secret" not in caught.value.failure.message


@pytest.mark.parametrize(("oddity", "dropout", "shares"), [("", 0.0, True), ("", 0.1, False), ("noisy", 0.0, False)])
def test_rows_share_no_beginning_in_training_where_something_is_drawn(
    odd_lab: Callable[[str], Lab], oddity: str, dropout: float, shares: bool
) -> None:
    """Whatever draws, under whatever name: each row has its own dropout or noise. In evaluation nothing is drawn."""
    lab = odd_lab(oddity)
    lab.data = write_rows(lab.folder / "long.jsonl", LONG)
    work(lab, lab.prepare_job(lora=LoraSection(rank=4, alpha=8, dropout=dropout)))
    base = lab.worker.warm.models._base
    assert base is not None
    assert shares_beginnings(base.language_model.train()) is shares
    assert shares_beginnings(base.language_model.eval())


@pytest.mark.parametrize("oddity", ["warmer", "capped"])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_head_of_unknown_form_is_trained_on_its_own_logits(
    odd_lab: Callable[[str], Lab], oddity: str, kind: str
) -> None:
    """The losses of training and of evaluation are those of plain transformers."""
    lab = odd_lab(oddity)
    prepared = work(lab, lab.prepare_job(training_kind=kind))
    assert "own head" in " ".join(prepared.notices)
    lab.fingerprint = prepared.fingerprint
    init = lab.work(lab.init_job(), remote_code=True)
    lab.run(init)
    adapter = init.folder / ADAPTER_FILE
    training = {"training_kind": kind, "batch_size": 64, "steps": 1, "learning_rate": 1e-2}
    trained = work(lab, lab.train_job(adapter, **training, lora=NO_DROPOUT), adapter=adapter)
    evaluated = work(lab, lab.evaluate_job(adapter, training_kind=kind), adapter=adapter)
    if kind == "dpo":  # both computations of the log-probabilities have one head, or the margin would not be 0
        assert trained.metrics["train_loss_first"] == pytest.approx(math.log(2), abs=1e-4)
        assert evaluated.metrics["held_out_loss"] == pytest.approx(math.log(2), abs=1e-4)
        return
    (data,) = lab.worker.warm.data._in_memory.values()
    drawn = sample_rows(len(data.train), 64, seed=7, round_number=1, client_number=0)
    first = plain_loss(lab.model, data.train.completions.take(drawn))
    assert trained.metrics["train_loss_first"] == pytest.approx(first, abs=1e-3)
    assert evaluated.metrics["held_out_loss"] == pytest.approx(
        plain_loss(lab.model, data.held_out.completions), abs=1e-3
    )


def plain_loss(folder: Path, rows: TokenRows) -> float:
    """The loss of the bare model, which an adapter with B = 0 is, in nats a token."""
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    assert type(model).__name__ == "OddForCausalLM"
    sums = plain_log_probabilities(model, rows, torch.device("cpu"))
    return float(-sums.sum() / rows.n_supervised.sum())


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry for each measurement."""
    calls: list[Any] = []
    measure = verdicts.measure
    monkeypatch.setattr(verdicts, "measure", lambda *args, **named: (calls.append(args), measure(*args, **named))[1])
    return calls


def test_a_base_is_measured_once_for_each_set_of_adapted_layers(
    new_lab: Callable[..., Lab], measured: list[Any]
) -> None:
    lab = new_lab()
    lab.run(lab.work(lab.prepare_job()))
    lab.run(lab.work(lab.prepare_job(base=BaseSection(model="another/name"))))
    assert len(measured) == 1, "a name is no part of a model"
    lab.run(lab.work(lab.prepare_job(lora={"rank": 2, "target_modules": ["q_proj"]})))
    assert len(measured) == 2
    for file in (lab.folder / "cache").glob("suitability-*"):
        file.write_text(file.read_text()[:-3])
    lab.run(lab.work(lab.prepare_job()))
    assert len(measured) == 3, "a damaged verdict is measured again"
    for file in (lab.folder / "cache").glob("suitability-*"):
        file.unlink()
        file.mkdir()
    lab.run(lab.work(lab.prepare_job()))
    assert len(measured) == 4, "one that cannot be kept costs time only"


def test_a_base_is_measured_again_for_rows_longer_than_those_that_it_was_measured_with(
    new_lab: Callable[..., Lab], measured: list[Any], tmp_path: Path
) -> None:
    short, long = (write_rows(tmp_path / f"{len(rows)}.jsonl", rows) for rows in (ROWS[:12], LONG[:11]))
    lab = new_lab()
    for path, count in ((short, 1), (short, 1), (long, 2), (short, 2)):
        lab.run(lab.work(lab.prepare_job(), data=lab.source(path=path)))
        assert len(measured) == count


def test_code_that_comes_with_a_model_is_a_part_of_it(odd_lab: Callable[[str], Lab], measured: list[Any]) -> None:
    lab = odd_lab("")
    first = work(lab, lab.prepare_job())
    assert "own head" not in " ".join(first.notices)
    code = lab.model / "modeling_odd.py"
    code.write_text(code.read_text().replace('oddity == "warmer"', 'oddity == ""'))
    second = Lab(lab.model, lab.data, lab.pairs, lab.folder, Worker())
    prepared = work(second, second.prepare_job())
    assert len(measured) == 2
    assert "own head" in " ".join(prepared.notices)
    assert prepared.fingerprint.differences(first.fingerprint) == ["config"]


def test_a_refusal_is_forgotten_once_its_cause_is_gone(odd_lab: Callable[[str], Lab]) -> None:
    lab = odd_lab("fails")
    with pytest.raises(TaskFailed):
        work(lab, lab.prepare_job())
    assert not list((lab.folder / "cache").glob("suitability-*"))


def test_a_model_that_peft_refuses_midway_stays_as_it_was(new_lab: Callable[..., Lab], tmp_path: Path) -> None:
    """PEFT adapts some layers of Mamba before it comes to one that it refuses."""
    lab = new_lab()
    lab.model = BY_NAME["Mamba"].make(tmp_path / "mamba")
    lora = LoraSection(rank=4, alpha=8, target_modules=["in_proj", "x_proj"])
    lab.fingerprint = lab.run(lab.work(lab.prepare_job(lora=lora))).fingerprint
    adapter = lab.adapter_0(lora)
    with pytest.raises(TaskFailed, match="PEFT cannot adapt this base model"):
        lab.run(lab.work(lab.prepare_job()))
    evaluated = lab.run(lab.work(lab.evaluate_job(adapter, lora=lora), adapter=adapter))
    fresh = Lab(lab.model, lab.data, lab.pairs, tmp_path, Worker(), lab.fingerprint)
    again = fresh.run(fresh.work(fresh.evaluate_job(adapter, lora=lora), adapter=adapter))
    assert evaluated.metrics == again.metrics


def test_probe_rows_have_different_lengths_and_are_supervised_in_part() -> None:
    long = (list(range(200)), [True] * 200)
    short = ([1, 2], [False, True])
    assert list(probe_rows(TokenRows.of([long])).lengths) == [64, 59, 54, 200]
    assert list(probe_rows(TokenRows.of([(list(range(9)), [True] * 9)])).lengths) == [9, 8, 7]
    assert list(probe_rows(TokenRows.of([short])).lengths) == [2, 2, 2]
    assert (probe_rows(TokenRows.of([short, long])).n_supervised >= 1).all()
    huge = TokenRows.of([(list(range(5000)), [True] * 5000)])
    assert probe_rows(huge).lengths.max() == 1024
