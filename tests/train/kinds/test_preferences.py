"""Preference optimisation: its data, losses and rewards, and the state that it must not change."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel
from trl.trainer import utils

from agent.data.held_out import is_held_out
from agent.data.rows import Comparison
from agent.errors import TaskFailed
from agent.orders.job_files import DELTA_FILE
from agent.train.base.attached import AttachedAdapter
from agent.train.base.model import Base
from agent.train.data.cache import DataCache
from agent.train.data.tokenizing import TextTokenizer
from agent.train.data.tokens import Samples
from agent.train.kinds.dpo import Training, collate_pairs
from agent.train.trainer.arguments import TrainerSettings
from agent.train.trainer.client_steps import ClientSteps
from agent.train.trainer.scoring import Scoring
from agent.train.worker import Worker
from shared.algorithms import ClientHalf, fedavg
from shared.campaign.spec import LoraSection, TrainingSection
from shared.kinds import find
from shared.kinds.dpo import DpoLoss, Section
from shared.wire.tasks.leases import FailureKind, Phase
from tests.support.rendering import render
from tests.support.tiny import PAIRS, byte_level_bpe
from tests.train.conftest import DEEP, Lab, first_in_fast, read, supervised_from, write_rows
from tests.train.kinds.test_training import NO_DROPOUT, batches, plain_model, train

pytestmark = pytest.mark.train

DPO = {"training_kind": "dpo", "lora": NO_DROPOUT, "kind_params": {"beta": 0.3}}


def plain_log_probs(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Σ log p over each row's completion, from all logits, (2n,)."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].float()
    token_log_probs = logits.log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)
    return (token_log_probs * batch["completion_mask"][:, 1:]).sum(1)


def plain_margins(model: Any, base: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """log π(chosen)/π_ref(chosen) − log π(rejected)/π_ref(rejected), (n,). base: the reference."""
    with torch.no_grad():
        reference = plain_log_probs(base, batch)
    chosen, rejected = (plain_log_probs(model, batch) - reference).chunk(2)
    return chosen - rejected


def plain_dpo_loss(model: Any, base: Any, batch: dict[str, torch.Tensor], beta: float) -> torch.Tensor:
    """Rafailov et al. 2023, eq. 7."""
    return -torch.nn.functional.logsigmoid(beta * plain_margins(model, base, batch)).mean()


def bare(lab: Lab) -> Any:
    return AutoModelForCausalLM.from_pretrained(lab.model, dtype=torch.float32).eval()


def prepare(lab: Lab, folder: Path, max_length: int = 96, cache: DataCache | None = None, **source: Any) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(lab.model)
    return (cache or DataCache()).prepare(
        lab.source("dpo", **source),
        "chat",
        max_length,
        tokenizer,
        lab.fingerprint,
        folder,
        lambda _: None,
        kind=find("dpo"),
    )


def batch_of(rows: Samples, n: int) -> dict[str, torch.Tensor]:
    """The first n pairs as a batch, without a reference."""
    examples = Training(Section()).examples(rows, np.arange(n), np.zeros((n, 2)))
    batch = collate_pairs(examples)
    return {name: values for name, values in batch.items() if not name.startswith("ref_")}


# data


def test_both_completions_are_tokenised_as_fine_tuning_would() -> None:
    tokenizer = byte_level_bpe()
    pair = Comparison("What?", "Think.", ("the river turns", "slowly"))
    tokens = list(
        TextTokenizer(tokenizer, 96).rows([render(completion, "chat", tokenizer) for completion in pair.completions])
    )
    rows = Samples.of([row for row in tokens if row is not None], [()], find("dpo"))
    assert len(rows) == 1
    example = dict(zip(("chosen", "rejected"), rows.examples(0), strict=True))
    prompts, answers = [], []
    for role in ("chosen", "rejected"):
        start = example[role]["labels"].count(-100)
        prompts.append(example[role]["input_ids"][:start])
        answers.append(tokenizer.decode(example[role]["input_ids"][start:]))
        assert example[role]["labels"][start:] == example[role]["input_ids"][start:]
    assert prompts[0] == prompts[1]
    assert answers == ["the river turns<|im_end|>", "slowly<|im_end|>"]
    assert rows.lengths.tolist() == [max(len(example[role]["input_ids"]) for role in example)]


def test_a_batch_holds_the_chosen_completions_and_then_the_rejected_ones() -> None:
    completions = [([1, 2, 3], 2), ([1, 2, 4, 5], 2), ([6, 7], 1), ([6, 8], 1)]
    rows = Samples.of([supervised_from(*completion) for completion in completions], [(), ()], find("dpo"))
    batch = batch_of(rows, 2)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 0], [6, 7, 0, 0], [1, 2, 4, 5], [6, 8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["completion_mask"].tolist() == [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0]]


def test_pairs_without_two_different_answers_are_dropped_and_counted(lab: Lab, tmp_path: Path) -> None:
    good = {"instruction": "What?", "input": "", "chosen": "the river", "rejected": "bread"}
    rows = [
        good,
        good | {"chosen": ""},
        good | {"rejected": ""},
        good | {"rejected": "the river"},
        good | {"instruction": "long " * 200},
        good | {"rejected": "bread " * 200},  # cut, but still a different completion
    ]
    path = write_rows(tmp_path / "pairs.jsonl", rows)
    work = lab.work(lab.prepare_job(training_kind="dpo"), data=lab.source("dpo", path=path, held_out=0.0))
    result = lab.run(work)
    assert (result.n_train, result.n_held_out, result.dropped) == (2, 0, 4)
    data = prepare(lab, tmp_path, path=path, held_out=0.0)
    assert data.train.completions.lengths.max() == 96


def test_completions_that_differ_only_beyond_the_cut_are_equal(lab: Lab, tmp_path: Path) -> None:
    row = {"instruction": "What?", "chosen": "bread " * 100 + "rises", "rejected": "bread " * 100 + "falls"}
    other = {"instruction": "What?", "chosen": "rises", "rejected": "falls"}
    path = write_rows(tmp_path / "pairs.jsonl", [row, other])
    data = prepare(lab, tmp_path, path=path, held_out=0.0, input=None)
    assert (len(data.train), data.dropped) == (1, 1)


def test_a_file_without_a_usable_pair_says_why(lab: Lab, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "pairs.jsonl", [{"instruction": "SECRET", "chosen": "a", "rejected": "a"}])
    with pytest.raises(
        TaskFailed, match=r"no row can be used: 1 row is skipped: two equal completions \(1\)"
    ) as caught:
        prepare(lab, tmp_path, path=path, input=None)
    assert caught.value.failure.kind == FailureKind.DATA
    assert "SECRET" not in caught.value.failure.message


def test_the_split_follows_the_whole_pair(lab: Lab, tmp_path: Path) -> None:
    pairs = [Comparison(row["instruction"], row["input"], (row["chosen"], row["rejected"])) for row in PAIRS]
    data = prepare(lab, tmp_path)
    assert len(data.held_out) == sum(is_held_out(pair, 0.2) for pair in pairs)
    assert len(data.train) + len(data.held_out) == len(PAIRS)
    swapped = [Comparison(pair.prompt, pair.input, pair.answers[::-1]) for pair in pairs]
    assert [is_held_out(pair, 0.5) for pair in pairs] != [is_held_out(pair, 0.5) for pair in swapped]


def test_the_cache_tells_kinds_and_columns_apart(lab: Lab, tmp_path: Path) -> None:
    both = write_rows(tmp_path / "both.jsonl", [{**row, "output": row["chosen"]} for row in PAIRS])
    source = lab.source(path=both)
    for kind in ("sft", "dpo"):
        lab.run(lab.work(lab.prepare_job(training_kind=kind), cache=tmp_path, data=source))
    assert len(list(tmp_path.glob("tokens-*.npz"))) == 2
    first = prepare(lab, tmp_path, path=both)
    assert len(list(tmp_path.glob("tokens-*.npz"))) == 2, "read from disk"
    swapped = prepare(lab, tmp_path, path=both, chosen="rejected", rejected="chosen", held_out=0.0)
    whole = prepare(lab, tmp_path, path=both, held_out=0.0)
    assert first.train.n_completions == 2
    assert swapped.train.examples(0) == whole.train.examples(0)[::-1]


# training


@contextmanager
def attached_adapter(lab: Lab, lora: LoraSection, tensors: dict[str, Any]) -> Iterator[AttachedAdapter]:
    base = Base(lab.model, torch.device("cpu"), torch.float32, remote_code=False)
    with base.adapter(lora, seed=0) as attached:
        for name, values in tensors.items():
            attached.parameters[name].data.copy_(torch.from_numpy(values))
        yield attached


def examples_of(lab: Lab, pairs: Any, indices: Iterable[int]) -> list[dict[str, Any]]:
    """Pairs as a trainer takes them, with their log-probabilities under the bare base."""
    at = np.array(indices)
    examples = Training(Section()).examples(pairs, at, np.zeros((len(at), 2)))
    with torch.no_grad():
        reference = [plain_log_probs(bare(lab), collate_pairs([pair])).tolist() for pair in examples]
    return Training(Section()).examples(pairs, at, np.array(reference))


def build(
    lab: Lab,
    attached: AttachedAdapter,
    tokenizer: Any = None,
    n_examples: int = 8,
    dpo: Section | None = None,
    batch_size: int = 4,
    micro_batch: int = 4,
) -> Any:
    data = prepare(lab, lab.folder / "cache")
    training = TrainingSection(steps=1, batch_size=batch_size)
    settings = TrainerSettings(str(lab.folder / "t"), training, 1e-2, micro_batch, seed=0, autocast_dtype=None)
    examples = examples_of(lab, data.train, range(n_examples))
    tokenizer = tokenizer or AutoTokenizer.from_pretrained(lab.model)
    return Training(dpo or Section(beta=0.3)).trainer(attached, examples, tokenizer, settings)


def test_trls_copy_of_the_adapter_is_removed_and_frozen_tensors_stay_frozen(lab: Lab) -> None:
    lora = NO_DROPOUT.model_copy(update={"freeze_a": True})
    with attached_adapter(lab, lora, read(lab.adapter_0(lora))) as attached:
        trained = set(attached.trained_parameters)
        build(lab, attached)
        assert list(attached.model.peft_config) == ["default"]
        assert not any(".ref." in name for name, _ in attached.model.named_parameters())
        assert set(attached.trained_parameters) == trained


def test_the_head_scores_supervised_positions_alone_with_the_same_values(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against TRL's own head, which scores all positions on a CPU."""
    lora, fields = NO_DROPOUT, ("log_probs", "entropy", "mean_logits", "is_top1")
    batch = batch_of(prepare(lab, lab.folder / "cache").train, 2)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    start = read(lab.adapter_0(lora))
    expected = plain_model(lab, lora, start).get_base_model()
    utils.add_fused_lm_head(expected, outputs=fields)
    positions: list[int] = []
    kernel, score = utils._ChunkedLogProbFunction, utils._ChunkedLogProbFunction.apply
    monkeypatch.setattr(kernel, "apply", lambda hidden, *rest: (positions.append(len(hidden)), score(hidden, *rest))[1])
    with attached_adapter(lab, lora, start) as attached, torch.no_grad():
        build(lab, attached)
        ours = attached.model.get_base_model()(**inputs, labels=labels, fused_lm_head=True)
        theirs = expected(**inputs, labels=labels, fused_lm_head=True)
    for name in fields:
        torch.testing.assert_close(ours[name], theirs[name])
    assert positions == [int(batch["completion_mask"][:, 1:].sum()), labels[:, 1:].numel()]


def plain_losses(model: Any, base: Any, batch: dict[str, torch.Tensor], beta: float) -> dict[str, torch.Tensor]:
    """Some of TRL's losses, written from their papers.

    hinge: Zhao et al. 2023. ipo: Azar et al. 2023, eq. 17, with means over tokens. robust: Chowdhury et al. 2024, with
    a tenth of the pairs flipped. sppo_hard: Wu et al. 2024.
    """
    with torch.no_grad():
        reference = plain_log_probs(base, batch)
    ratios = plain_log_probs(model, batch) - reference
    chosen, rejected = ratios.chunk(2)
    margins = chosen - rejected
    n_chosen, n_rejected = batch["completion_mask"].sum(1).chunk(2)
    log_sigmoid = torch.nn.functional.logsigmoid
    return {
        "sigmoid": -log_sigmoid(beta * margins).mean(),
        "hinge": torch.relu(1 - beta * margins).mean(),
        "ipo": ((chosen / n_chosen - rejected / n_rejected - 1 / (2 * beta)) ** 2).mean(),
        "robust": ((-0.9 * log_sigmoid(beta * margins) + 0.1 * log_sigmoid(-beta * margins)) / 0.8).mean(),
        "sppo_hard": ((chosen - 0.5 / beta) ** 2 + (rejected + 0.5 / beta) ** 2).mean(),
    }


@pytest.mark.parametrize(
    "loss", [loss if loss in ("sigmoid", "robust") else pytest.param(loss, marks=DEEP) for loss in get_args(DpoLoss)]
)
def test_every_loss_of_trl_can_be_trained(lab: Lab, loss: Any) -> None:
    dpo = Section(beta=0.3, loss=loss, label_smoothing=0.1 if loss in ("robust", "exo_pair") else 0.0)
    start = read(lab.adapter_0(NO_DROPOUT))
    with attached_adapter(lab, NO_DROPOUT, start) as attached:
        trainer = build(lab, attached, n_examples=4, dpo=dpo)
        trainer.attach(ClientSteps(fedavg.Client(fedavg.Params(), {}), attached.trained_parameters))
        trainer.train()
        assert any(
            not torch.equal(value, torch.from_numpy(start[name])) for name, value in attached.trained_parameters.items()
        )
    rows = prepare(lab, lab.folder / "cache").train
    batch = batch_of(rows, 4)
    expected = plain_losses(plain_model(lab, NO_DROPOUT, start), bare(lab), batch, 0.3)
    if loss in expected:
        assert trainer.history.losses == [pytest.approx(expected[loss].item(), rel=1e-4)]


def test_each_step_reports_its_pairs_margin_and_accuracy(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Independent of the micro-batch. The task's metrics are the means over its steps."""
    # steps are shorter than the interval, and the test needs a report of each
    monkeypatch.setattr("agent.train.progress._INTERVAL_S", 0.0)
    adapter = lab.adapter_0(NO_DROPOUT)
    model, base = plain_model(lab, NO_DROPOUT, read(adapter)), bare(lab)
    with torch.no_grad():
        margins = [0.3 * plain_margins(model, base, batch) for batch in batches(lab, steps=3, batch_size=4, kind="dpo")]
    expected = [(margin.mean().item(), (margin > 0).double().mean().item()) for margin in margins]
    for micro_batch in (4, 1):
        result, _ = train(lab, adapter, job=DPO | {"learning_rate": 1e-9}, micro_batch=micro_batch)
        first = next(report for report in lab.reports if report.phase == Phase.TRAINING and report.done == 1)
        assert (first.metrics["reward_margin"], first.metrics["reward_accuracy"]) == pytest.approx(
            expected[0], abs=1e-5
        )
        means = np.mean(expected, axis=0)
        assert (result.metrics["reward_margin"], result.metrics["reward_accuracy"]) == pytest.approx(means, abs=1e-5)


def test_fine_tuning_has_no_rewards(lab: Lab) -> None:
    result, _ = train(lab, lab.adapter_0(NO_DROPOUT))
    assert not result.metrics.keys() & {"reward_margin", "reward_accuracy"}


@pytest.mark.parametrize("micro_batch", first_in_fast([1, 8]))
def test_a_steps_loss_and_gradient_are_the_whole_batchs(lab: Lab, micro_batch: int) -> None:
    start = read(lab.adapter_0(NO_DROPOUT))
    rows = prepare(lab, lab.folder / "cache").train
    batch = batch_of(rows, 8)
    model = plain_model(lab, NO_DROPOUT, start)
    loss = plain_dpo_loss(model, bare(lab), batch, 0.3)
    loss.backward()
    seen: dict[str, torch.Tensor] = {}

    class GradientRecorder(ClientHalf[Any]):
        def extra_grad(self, name: str, w: Any, anchor: Any) -> None:
            seen[name] = attached.parameters[name].grad.clone()

    with attached_adapter(lab, NO_DROPOUT, start) as attached:
        trainer = build(lab, attached, batch_size=8, micro_batch=micro_batch)
        trainer.attach(ClientSteps(GradientRecorder(None, {}), attached.trained_parameters))
        trainer.train()
        history = trainer.history
    assert history.losses == [pytest.approx(loss.item(), abs=1e-6)]
    assert (history.steps, history.tokens) == (1, int(batch["attention_mask"].sum()))
    for name, value in model.named_parameters():
        if value.requires_grad:
            torch.testing.assert_close(seen[name.replace(".default", "")], value.grad, atol=1e-6, rtol=1e-4)


def test_training_raises_the_chosen_above_the_rejected(lab: Lab) -> None:
    adapter = lab.adapter_0(NO_DROPOUT)
    result, folder = train(lab, adapter, job=DPO | {"steps": 10, "learning_rate": 5e-3})
    assert result.metrics["train_loss_last"] < result.metrics["train_loss_first"] - 0.1
    start, delta = read(adapter), read(folder / DELTA_FILE)
    base = bare(lab)
    [batch] = batches(lab, steps=1, batch_size=16, kind="dpo")
    before, after = (
        plain_margins(plain_model(lab, NO_DROPOUT, tensors).eval(), base, batch).mean().item()
        for tensors in (start, {name: start[name] + delta[name] for name in start})
    )
    assert after > before + 1


def test_the_tokenizer_stays_as_it_was_also_without_a_padding_token(lab: Lab) -> None:
    start = read(lab.adapter_0(NO_DROPOUT))
    tokenizer = AutoTokenizer.from_pretrained(lab.model)
    tokenizer.pad_token = None
    special, text = dict(tokenizer._special_tokens_map), tokenizer.backend_tokenizer.to_str()
    with attached_adapter(lab, NO_DROPOUT, start) as attached:
        trainer = build(lab, attached, tokenizer)
        trainer.attach(ClientSteps(fedavg.Client(fedavg.Params(), {}), attached.trained_parameters))
        trainer.train()
    assert tokenizer._special_tokens_map == special
    assert tokenizer.backend_tokenizer.to_str() == text


def test_dropout_comes_back_after_preferences(lab: Lab, tmp_path: Path, new_lab: Callable[..., Lab]) -> None:
    """GPT-2 has its own dropout modules, which TRL switches off for preferences."""
    tokenizer = byte_level_bpe()
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, eos_token_id=tokenizer.eos_token_id, n_positions=128
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    other = Lab(tmp_path / "gpt2", lab.data, lab.pairs, tmp_path, Worker())
    other.fingerprint = other.run(other.work(other.prepare_job())).fingerprint
    lora = LoraSection(rank=2, target_modules=["c_attn"], dropout=0.2)
    adapter = other.adapter_0(lora)
    first, _ = train(other, adapter, job={"lora": lora})
    train(other, adapter, job=DPO | {"lora": lora})
    base = other.worker.warm.models._base
    assert base is not None
    assert {module.p for module in base.language_model.modules() if isinstance(module, nn.Dropout)} == {0.1}
    assert train(other, adapter, job={"lora": lora})[0].delta == first.delta


# evaluation


def held_out_batch(lab: Lab) -> dict[str, torch.Tensor]:
    rows = prepare(lab, lab.folder / "cache").held_out
    return batch_of(rows, len(rows))


@pytest.mark.parametrize("micro_batch", first_in_fast([16, 1]))
def test_the_held_out_loss_and_accuracy_match_plain_torch(lab: Lab, micro_batch: int) -> None:
    adapter = lab.adapter_0()
    work = lab.work(lab.evaluate_job(adapter, **DPO), adapter=adapter, micro_batch=micro_batch)
    result = lab.run(work)
    batch = held_out_batch(lab)
    with torch.no_grad():
        margins = plain_margins(plain_model(lab, NO_DROPOUT, read(adapter)).eval(), bare(lab), batch)
    assert result.metrics["held_out_loss"] == pytest.approx(
        -torch.nn.functional.logsigmoid(0.3 * margins).mean().item(), abs=1e-5
    )
    assert result.metrics["held_out_accuracy"] == pytest.approx((margins > 0).double().mean().item())
    assert 0 < result.metrics["held_out_accuracy"] < 1
    assert result.metrics["held_out_margin"] == pytest.approx(0.3 * margins.mean().item(), abs=1e-5)
    assert (result.metrics["held_out_rows"], result.metrics["held_out_tokens"]) == (
        len(margins),
        int(batch["completion_mask"].sum()),
    )
    reports = [report for report in lab.reports if report.phase == Phase.EVALUATING]
    assert (reports[-1].done, reports[-1].total) == (result.metrics["held_out_rows"], result.metrics["held_out_rows"])


def test_an_adapter_with_b_zero_has_a_loss_of_log_2(lab: Lab) -> None:
    work = lab.work(lab.init_job(lora=NO_DROPOUT))
    lab.run(work)
    adapter = work.folder / "adapter.safetensors"
    result = lab.run(lab.work(lab.evaluate_job(adapter, **DPO), adapter=adapter))
    assert result.metrics["held_out_loss"] == pytest.approx(np.log(2))
    assert result.metrics["held_out_accuracy"] == 0, "a margin of zero counts as wrong"


def test_fine_tuning_has_no_accuracy(lab: Lab) -> None:
    adapter = lab.adapter_0()
    metrics = lab.run(lab.work(lab.evaluate_job(adapter), adapter=adapter)).metrics
    assert metrics.keys() == {"held_out_loss", "held_out_rows", "held_out_tokens"}


def test_an_extreme_margin_gives_a_finite_loss(lab: Lab) -> None:
    rows = prepare(lab, lab.folder / "cache").held_out
    reference = np.tile([2000.0, 0.0], (len(rows), 1))
    scoring = Scoring(4, None, report=lambda _: None, scorer=lambda *_: np.zeros(2 * len(rows)))
    with attached_adapter(lab, NO_DROPOUT, {}) as attached:
        metrics = Training(Section(beta=1.0)).evaluate(attached.model, rows, reference, scoring)
    assert metrics == {"held_out_loss": 2000.0, "held_out_accuracy": 0.0, "held_out_margin": -2000.0}
