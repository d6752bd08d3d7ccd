"""One run of ``training.py``, in a process of its own with one thread: Fedloom's trainer, or TRL's.

All trainers get the same tokens in the order of the file, the same adapter, and AdamW. The first step, which warms up,
is not measured. Padding counts as no token.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.wire.tasks.results import Fingerprint

RANK, RATE, MAX_LENGTH = 8, 3e-4, 512
UNKNOWN = Fingerprint(weights="0" * 64, config="0" * 64, tokenizer="0" * 64, template="0" * 64)
"""Names no cached tokens and no cached verdict: each run has a folder of its own."""
QUESTION = "What is the sentiment of this sentence: positive, negative or neutral?"


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        trainer: ``fedloom`` or ``trl``.
        options: of TRL's configuration, beside its defaults.
        rows: a name of ROWS.
        dtype: of the frozen base.
        data: the folder of the rows' files.
        model: the base model's folder.
        steps: optimizer steps, the first of which is not measured.
        batch: rows of a step.
    """

    trainer: str
    options: dict[str, Any]
    rows: str
    dtype: str
    data: str
    model: str
    steps: int
    batch: int


@dataclass(frozen=True)
class Result:
    """What a run measured.

    Attributes:
        tokens_per_s: after the first step.
        peak_mb: of the process, in training.
        losses: of each step, in the kind's unit.
        held_out: the held-out loss after training, in the same unit; of Fedloom's.
        grown_mb: the peak beyond what the process took before the training; of Fedloom's.
        estimated_mb: the need that was estimated before it.
    """

    tokens_per_s: float
    peak_mb: float
    losses: list[float]
    held_out: float = 0.0
    grown_mb: float = 0.0
    estimated_mb: float = 0.0


def phrasebank(data: Path) -> Iterator[dict[str, str]]:
    """Short rows, of which one word is learnt."""
    for line in (data / "finance/fpb/Sentences_AllAgree.txt").read_text("latin-1").splitlines():
        sentence, _, label = line.rpartition("@")
        yield {"instruction": QUESTION, "input": sentence, "output": label}


def medical(data: Path) -> Iterator[dict[str, str]]:
    """Rows of many lengths, most of which is learnt."""
    yield from json.loads((data / "medical/medical_meadow_small.json").read_text())


def preferences(data: Path) -> Iterator[dict[str, str]]:
    """Pairs of transcripts that differ in the last reply."""
    for line in (data / "dpo/hh_rlhf/harmless-base_first1500.jsonl").read_text().splitlines():
        yield json.loads(line)


ROWS = {"phrasebank": phrasebank, "medical": medical, "preferences": preferences}
COLUMNS = {"prompt": "instruction", "input": "input", "completion": "output"}
N_HELD_OUT = 24


def kind_of(rows: str) -> str:
    """The kind of training of rows."""
    return "dpo" if rows == "preferences" else "sft"


def tokens_of(plan: Plan, folder: Path) -> Any:
    """The tokenizer, and the rows of a plan tokenised as an agent does: the first ones train, others are held out."""
    from agent.data.source import DataSource
    from agent.train.base.model import load_tokenizer
    from agent.train.data.cache import DataCache
    from shared import kinds

    n_rows = plan.steps * plan.batch + 20 * N_HELD_OUT  # a twentieth is held out
    rows = [row for _, row in zip(range(n_rows), ROWS[plan.rows](Path(plan.data)), strict=False)]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kind = kind_of(plan.rows)
    columns = {"chosen": "chosen", "rejected": "rejected"} if kind == "dpo" else COLUMNS
    source = DataSource(path=path, held_out=0.05, **columns)
    tokenizer = load_tokenizer(Path(plan.model), remote_code=False)
    given = (source, "chat", MAX_LENGTH, tokenizer, UNKNOWN, folder, lambda _: None)
    return tokenizer, DataCache().prepare(*given, kind=kinds.find(kind))


class Clock:
    """Times the steps of a trainer, but for the first."""

    def __init__(self, n_tokens: Sequence[int], batch: int) -> None:
        """n_tokens: of each row, with all of its completions. batch: rows of a step."""
        self._measured = sum(n_tokens[batch:])
        self._at: list[float] = []

    def tick(self) -> None:
        self._at.append(time.perf_counter())

    @property
    def tokens_per_s(self) -> float:
        return self._measured / (self._at[-1] - self._at[0])


def run_fedloom(plan: Plan, folder: Path) -> Result:
    import numpy as np
    import torch

    from agent.configuration.settings import ComputeSettings
    from agent.train.base.model import Base
    from agent.train.kinds import find
    from agent.train.process import memory
    from agent.train.stack import OWN_STACK
    from agent.train.stack.base import Training
    from agent.train.stack.training import make_examples
    from agent.train.suitability.verdicts import ensure_suitable
    from agent.train.trainer.arguments import TrainerSettings
    from agent.train.trainer.client_steps import ClientSteps
    from agent.train.trainer.need import Need, choose
    from agent.train.trainer.reference import Reference
    from agent.train.trainer.scoring import Scoring
    from shared import kinds
    from shared.algorithms import AlgorithmParams, ClientHalf
    from shared.campaign.spec import BaseSection, LoraSection, TrainingSection

    tokenizer, data = tokens_of(plan, folder)
    n_rows, kind = plan.steps * plan.batch, kind_of(plan.rows)
    samples, held_out = (
        data.train.at(np.arange(n_rows)),
        data.held_out.at(np.arange(min(N_HELD_OUT, len(data.held_out)))),
    )
    training = find(kind)(kinds.find(kind).section())
    base = Base(Path(plan.model), torch.device("cpu"), getattr(torch, plan.dtype), remote_code=False)
    section = TrainingSection(steps=plan.steps, batch_size=plan.batch, learning_rate=RATE, max_length=MAX_LENGTH)
    most = ComputeSettings().micro_batch
    n_tokens = samples.completions.lengths.reshape(-1, samples.n_completions).sum(axis=1)  # (n_rows,)
    clock = Clock(n_tokens.tolist(), plan.batch)
    lora = LoraSection(rank=RANK, alpha=2 * RANK)
    measured = {"micro_batch": most, "cache": folder, "report": lambda _: None}
    verdict = ensure_suitable(base, UNKNOWN, lora, samples.completions, use=[], quantization=None, **measured)
    choice = choose(
        Need.of(base.language_model, verdict.bytes_per_token),
        n_tokens,
        samples.completions.n_supervised.reshape(-1, samples.n_completions).sum(axis=1),
        batch_size=plan.batch,
        most=most,
        free=memory.free_bytes(base.device),
        on_cpu=True,
    )
    micro_batch = choice.micro_batch
    references = [None, None]
    if training.needs_reference:
        reference = Reference(folder, BaseSection(model="m"), UNKNOWN, None, lora, OWN_STACK)
        scored = {"micro_batch": micro_batch, "report": lambda *_: None}
        references = [
            reference.log_probabilities(base, each, np.arange(len(each)), **scored) for each in (samples, held_out)
        ]
    with base.adapter(lora, seed=0) as attached:
        attached.draw(seed=0)
        steps = ClientSteps(ClientHalf(AlgorithmParams(), {}), attached.trained_parameters, lambda _: clock.tick())
        memory.reset_peak()
        before = memory.peak_bytes()
        OWN_STACK.train(
            Training(
                kind=kind,
                kind_training=training,
                language_model=base.language_model,
                attached=attached,
                examples=make_examples(training, kind, samples, np.arange(n_rows), references[0]),
                tokenizer=tokenizer,
                settings=TrainerSettings(str(folder), section, RATE, micro_batch, 0, base.autocast_dtype),
                client_steps=steps,
            )
        )
        peak = memory.peak_bytes()
        scoring = Scoring(micro_batch, base.autocast_dtype, lambda _: None)
        loss = training.evaluate(attached.model, held_out, references[1], scoring)["held_out_loss"]
    grown, estimated = (peak - before) / 1e6, choice.bytes / 1e6
    return Result(clock.tokens_per_s, peak / 1e6, steps.history.losses, loss, grown, estimated)


def run_trl(plan: Plan, folder: Path) -> Result:
    import numpy as np
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    from agent.train.data.tokens import IGNORED
    from agent.train.process import memory
    from shared.adapters.files import Contract, TensorSpec
    from shared.adapters.initial import initial_tensors

    tokenizer, data = tokens_of(plan, folder)
    n_rows = plan.steps * plan.batch
    samples = data.train.at(np.arange(n_rows))
    n_tokens = samples.completions.lengths.reshape(-1, samples.n_completions).sum(axis=1)  # (n_rows,)
    clock = Clock(n_tokens.tolist(), plan.batch)

    class Steps(TrainerCallback):
        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            clock.tick()

    class Tokenised(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    def pair(number: int) -> dict[str, list[int]]:
        chosen, rejected = samples.examples(number)
        n_prompt = next(place for place, label in enumerate(chosen["labels"]) if label != IGNORED)
        return {
            "prompt_ids": chosen["input_ids"][:n_prompt],
            "chosen_ids": chosen["input_ids"][n_prompt:],
            "rejected_ids": rejected["input_ids"][n_prompt:],
        }

    arguments: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": plan.steps,
        "per_device_train_batch_size": plan.batch,
        **plan.options,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "bf16": plan.dtype == "bfloat16",
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    model = AutoModelForCausalLM.from_pretrained(plan.model, dtype=getattr(torch, plan.dtype))
    peft_config = LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules="all-linear")
    given = {"processing_class": tokenizer, "peft_config": peft_config, "callbacks": [Steps()]}
    trainer: Any
    if kind_of(plan.rows) == "dpo":
        pairs = Dataset.from_list([pair(number) for number in range(n_rows)])
        trainer = Tokenised(model, args=DPOConfig(**arguments), train_dataset=pairs, **given)
    else:
        rows = Dataset.from_list([dict(each) for number in range(n_rows) for each in samples.examples(number)])
        config = SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True})
        trainer = SFTTrainer(model, args=config, train_dataset=rows, **given)
    factors = {
        name.replace(".default.", "."): parameter
        for name, parameter in trainer.model.named_parameters()
        if parameter.requires_grad
    }
    contract = Contract.of({name: TensorSpec("F32", tuple(each.shape)) for name, each in sorted(factors.items())})
    for name, values in initial_tensors(contract, 0):
        factors[name].data.copy_(torch.from_numpy(values))
    memory.reset_peak()
    trainer.train()
    losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    return Result(clock.tokens_per_s, memory.peak_bytes() / 1e6, losses)


def main() -> None:
    """Arguments: the plan as JSON, and an empty folder. Prints the result as JSON."""
    import torch

    torch.set_num_threads(1)
    plan = Plan(**json.loads(sys.argv[1]))
    run = run_fedloom if plan.trainer == "fedloom" else run_trl
    print(json.dumps(asdict(run(plan, Path(sys.argv[2])))))


if __name__ == "__main__":
    main()
