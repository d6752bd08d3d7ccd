"""Measures training on one CPU thread: Fedloom's trainer beside TRL's own, in tokens a second and peak memory.

    python benchmarks/training.py --data DIR --model DIR [--rows phrasebank medical] [--steps 8] [--json FILE]

The data has ``finance/fpb`` and ``medical``; the model is SmolLM2-135M-Instruct. All
trainers get the same tokens in the order of the file, the same adapter, batches of eight rows, and AdamW. *TRL* is its
trainer with its defaults, in float32; *TRL, tuned* is the fastest of what its documentation offers for a CPU without
changing the order of rows. Each run is a process of its own, with one thread. Padding counts as no token, and the first
step, which warms up, is not measured. The medians of ``--repeat`` runs are compared.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rows import Ratio, Row, add_option, at_least, at_most, write

from shared.wire.tasks.results import Fingerprint

ROOT = Path(__file__).resolve().parents[1]
BATCH, RANK, RATE = 8, 8, 3e-4
MAX_LENGTH = 512
UNKNOWN = Fingerprint(weights="0" * 64, config="0" * 64, tokenizer="0" * 64, template="0" * 64)
"""Names no cached tokens and no cached verdict: each run has a folder of its own."""
QUESTION = "What is the sentiment of this sentence: positive, negative or neutral?"
TUNED: dict[str, dict[str, Any]] = {
    "no gradient checkpointing": {"gradient_checkpointing": False},
    "that, and no padding to a multiple": {"gradient_checkpointing": False, "pad_to_multiple_of": None},
    "that, and one row at a time": {
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": BATCH,
    },
    "that, and the loss in chunks": {
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": BATCH,
        "loss_type": "chunked_nll",
    },
}


@dataclass(frozen=True)
class Plan:
    """One run. trainer: ``fedloom``, ``trl``, or a name of TUNED. rows: a name of ROWS."""

    trainer: str
    rows: str
    data: str
    model: str
    steps: int


@dataclass(frozen=True)
class Result:
    """What a run measured. losses: of each step, in nats a token."""

    tokens_per_s: float
    peak_mb: float
    losses: list[float]


def phrasebank(data: Path) -> Iterator[dict[str, str]]:
    """Short rows, of which one word is learnt."""
    for line in (data / "finance/fpb/Sentences_AllAgree.txt").read_text("latin-1").splitlines():
        sentence, _, label = line.rpartition("@")
        yield {"instruction": QUESTION, "input": sentence, "output": label}


def medical(data: Path) -> Iterator[dict[str, str]]:
    """Rows of many lengths, most of which is learnt."""
    yield from json.loads((data / "medical/medical_meadow_small.json").read_text())


ROWS = {"phrasebank": phrasebank, "medical": medical}


def tokens_of(plan: Plan, folder: Path) -> Any:
    """The rows of a plan, tokenised as an agent does."""
    from agent.data.source import DataSource
    from agent.train.base.model import load_tokenizer
    from agent.train.data.cache import DataCache
    from shared import kinds

    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[plan.rows](Path(plan.data))))
    tokenizer = load_tokenizer(Path(plan.model), remote_code=False)
    return tokenizer, DataCache().prepare(
        DataSource(path=path, prompt="instruction", input="input", completion="output", held_out=0.05),
        "auto",
        MAX_LENGTH,
        tokenizer,
        UNKNOWN,
        folder,
        lambda _: None,
        kind=kinds.find("sft"),
    )


class Clock:
    """Times the steps of a trainer, but for the first."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._lengths = lengths
        self._at: list[float] = []

    def tick(self) -> None:
        self._at.append(time.perf_counter())

    @property
    def tokens_per_s(self) -> float:
        return sum(self._lengths[BATCH:]) / (self._at[-1] - self._at[0])


def run_fedloom(plan: Plan, folder: Path) -> Result:
    import numpy as np
    import torch

    from agent.configuration.settings import ComputeSettings
    from agent.train.base.model import Base
    from agent.train.kinds import find
    from agent.train.process import memory
    from agent.train.stack.training import make_examples
    from agent.train.stack.trl import build_trainer
    from agent.train.suitability.verdicts import ensure_suitable
    from agent.train.trainer.arguments import TrainerSettings, micro_batch_of
    from agent.train.trainer.client_steps import ClientSteps
    from shared import kinds
    from shared.algorithms import AlgorithmParams, ClientHalf
    from shared.campaign.spec import LoraSection, TrainingSection

    tokenizer, data = tokens_of(plan, folder)
    n_rows = plan.steps * BATCH
    samples = data.train.at(np.arange(n_rows))
    training = find("sft")(kinds.find("sft").section())
    base = Base(Path(plan.model), torch.device("cpu"), torch.float32, remote_code=False)
    section = TrainingSection(steps=plan.steps, batch_size=BATCH, learning_rate=RATE, max_length=MAX_LENGTH)
    micro_batch = micro_batch_of(BATCH, ComputeSettings().micro_batch)
    clock = Clock(samples.lengths.tolist())
    lora = LoraSection(rank=RANK, alpha=2 * RANK)
    rows, measured = samples.completions, {"micro_batch": micro_batch, "cache": folder, "report": lambda _: None}
    ensure_suitable(base, UNKNOWN, lora, rows, use=[], quantization=None, **measured)
    with base.adapter(lora, seed=0) as attached:
        attached.draw(seed=0)
        settings = TrainerSettings(
            folder=str(folder),
            training=section,
            learning_rate=RATE,
            micro_batch=micro_batch,
            seed=0,
            autocast_dtype=base.autocast_dtype,
        )
        examples = make_examples(training, "sft", samples, np.arange(n_rows), None)
        trainer = build_trainer(training, base.language_model, attached, examples, tokenizer, settings)
        client = ClientHalf(AlgorithmParams(), {})
        trainer.attach(ClientSteps(client, attached.trained_parameters, lambda _: clock.tick()))
        memory.reset_peak()
        trainer.train()
    return Result(clock.tokens_per_s, memory.peak_bytes() / 1e6, trainer.history.losses)


def run_trl(plan: Plan, folder: Path, options: dict[str, Any]) -> Result:
    import numpy as np
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from agent.train.process import memory
    from shared.adapters.files import Contract, TensorSpec
    from shared.adapters.initial import initial_tensors

    tokenizer, data = tokens_of(plan, folder)
    n_rows = plan.steps * BATCH
    rows = data.train.completions.take(np.arange(n_rows))
    clock = Clock(rows.lengths.tolist())
    examples = [dict(rows.example(number)) for number in range(n_rows)]

    class Steps(TrainerCallback):
        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            clock.tick()

    model = AutoModelForCausalLM.from_pretrained(plan.model, dtype=torch.float32)
    trainer = SFTTrainer(
        model,
        args=SFTConfig(
            output_dir=str(folder),
            max_steps=plan.steps,
            **{"per_device_train_batch_size": BATCH, **options},
            learning_rate=RATE,
            lr_scheduler_type="constant",
            use_cpu=True,
            bf16=False,
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(examples),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules="all-linear"),
        callbacks=[Steps()],
    )
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


def run(plan: Plan) -> Result:
    """Run a plan in a process of its own, with one thread."""
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, __file__, "--one", json.dumps(asdict(plan)), folder]
        done = subprocess.run(
            argv, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=3600
        )
    if done.returncode != 0:
        sys.exit(f"{plan.trainer} failed:\n{done.stderr[-4000:]}")
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def one(plan: Plan, folder: Path) -> None:
    """What the process of a run does."""
    import torch

    torch.set_num_threads(1)
    result = (
        run_fedloom(plan, folder) if plan.trainer == "fedloom" else run_trl(plan, folder, TUNED.get(plan.trainer, {}))
    )
    print(json.dumps(asdict(result)))


def medians(plan: Plan, repeat: int) -> Result:
    """The medians of several runs."""
    results = [run(plan) for _ in range(repeat)]
    speed, peak = (statistics.median(getattr(each, name) for each in results) for name in ("tokens_per_s", "peak_mb"))
    first = results[0]
    print(f"  {plan.trainer:36} {speed:7.1f} tokens/s {peak:7.0f} MB, last loss {first.losses[-1]:.6f}", flush=True)
    return Result(speed, peak, first.losses)


def compared(rows: str, results: dict[str, Result]) -> list[Row]:
    """Ours beside the others'. rows: of which data. results: by trainer."""
    plain, ours = results["trl"], results["fedloom"]
    tuned = max((results[name] for name in TUNED if name in results), key=lambda each: each.tokens_per_s, default=plain)
    differs = max(abs(a - b) for a, b in zip(ours.losses, plain.losses, strict=True))
    print(f"  losses differ by {differs:.1g} at most")
    what = f"SFT, {rows}, one thread, float32"
    to_plain, to_tuned = (Ratio(ours.tokens_per_s / each.tokens_per_s, "") for each in (plain, tuned))
    memory = Ratio(ours.peak_mb / plain.peak_mb, "TRL")
    return [
        Row(what, ours.tokens_per_s, "tokens/s", replace(to_plain, to="TRL"), at_least(2.5, "ratio")),
        Row(what, ours.tokens_per_s, "tokens/s", replace(to_tuned, to="TRL, tuned"), at_least(1.5, "ratio")),
        Row(f"{what}: peak memory", ours.peak_mb, "MB", memory, at_most(0.6, "ratio")),
        Row(f"{what}: largest difference of a step's loss", differs, "nats", goal=at_most(1e-5)),
    ]


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        one(Plan(**json.loads(sys.argv[2])), Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--model", required=True, metavar="DIR")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--trainers", nargs="+", default=["trl", *TUNED, "fedloom"], choices=["trl", *TUNED, "fedloom"])
    add_option(parser)
    given = parser.parse_args()
    found: list[Row] = []
    for rows in given.rows:
        print(rows, flush=True)
        plans = {name: Plan(name, rows, given.data, given.model, given.steps) for name in given.trainers}
        found += compared(rows, {name: medians(plan, given.repeat) for name, plan in plans.items()})
    for row in found:
        ratio = f", {row.ratio.value:.2f} x {row.ratio.to}" if row.ratio is not None else ""
        print(f"{row.what}: {row.value:.4g} {row.unit}{ratio}")
    write(given.json, found)


if __name__ == "__main__":
    main()
