"""Measures training on one CPU thread: Fedloom's trainer beside TRL's own, in tokens a second and peak memory.

    python benchmarks/training.py --data DIR --model DIR [--rows phrasebank medical preferences] [--json FILE]

The data has ``finance/fpb``, ``medical`` and ``dpo/hh_rlhf``; the model is SmolLM2-135M-Instruct. *TRL* is its trainer
with its defaults, in float32; *TRL, tuned* is the fastest of what its documentation offers for a CPU without changing
the order of rows. All tokens of the rows count, those that Fedloom computes once for several rows too. Preferences have
a reference: TRL computes it in each step, Fedloom once a campaign, before its steps, which are what is measured. The
medians of ``--repeat`` runs are compared.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rows import Ratio, Row, add_option, at_least, at_most, write
from training_runs import ROWS, Plan, Result, kind_of

ROOT = Path(__file__).resolve().parents[1]
BATCH = {"sft": 8, "dpo": 4}
ONE_ROW = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": BATCH["sft"]}
TUNED: dict[str, dict[str, Any]] = {
    "no gradient checkpointing": {},
    "that, and no padding to a multiple": {"pad_to_multiple_of": None},
    "that, and one row at a time": ONE_ROW,
    "that, and the loss in chunks": {**ONE_ROW, "loss_type": "chunked_nll"},
}
OURS = {"fedloom": "float32", "fedloom, bfloat16": "bfloat16"}
TRAINERS = ["trl", *TUNED, *OURS]
GOALS = {"sft": 2.5, "dpo": 2.0}


def plan_of(trainer: str, rows: str, given: argparse.Namespace) -> Plan:
    """The plan of a trainer, by its name."""
    options = {"gradient_checkpointing": False, **TUNED[trainer]} if trainer in TUNED else {}
    return Plan(
        trainer="fedloom" if trainer in OURS else "trl",
        options=options,
        rows=rows,
        dtype=OURS.get(trainer, "float32"),
        data=given.data,
        model=given.model,
        steps=given.steps,
        batch=BATCH[kind_of(rows)],
    )


def run(plan: Plan) -> Result:
    """Run a plan in a process of its own, with one thread."""
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, str(Path(__file__).with_name("training_runs.py")), json.dumps(asdict(plan)), folder]
        done = subprocess.run(
            argv, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=3600
        )
    if done.returncode != 0:
        sys.exit(f"{plan.trainer} failed:\n{done.stderr[-4000:]}")
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def medians(name: str, plan: Plan, repeat: int) -> Result:
    """The medians of several runs."""
    results = [run(plan) for _ in range(repeat)]
    speed, peak = (statistics.median(getattr(each, key) for each in results) for key in ("tokens_per_s", "peak_mb"))
    first = results[0]
    print(f"  {name:36} {speed:7.1f} tokens/s {peak:7.0f} MB, last loss {first.losses[-1]:.6f}", flush=True)
    return replace(first, tokens_per_s=speed, peak_mb=peak)


def compared(rows: str, results: dict[str, Result]) -> list[Row]:
    """Ours beside the others'. rows: of which data. results: by trainer."""
    kind = kind_of(rows)
    plain, ours = results["trl"], results["fedloom"]
    what = f"{kind.upper()}, {rows}, one thread"

    def beside(each: Result, other: Result, to: str, goal: float, which: str = "float32") -> Row:
        ratio = Ratio(each.tokens_per_s / other.tokens_per_s, to)
        return Row(f"{what}, {which}", each.tokens_per_s, "tokens/s", ratio, at_least(goal, "ratio"))

    found = [beside(ours, plain, "TRL", GOALS[kind])]
    if tuned := [results[name] for name in TUNED if name in results]:
        found.append(beside(ours, max(tuned, key=lambda each: each.tokens_per_s), "TRL, tuned", 1.5))
    memory = Ratio(ours.peak_mb / plain.peak_mb, "TRL")
    differs = max(abs(a - b) for a, b in zip(ours.losses, plain.losses, strict=True))
    found += [
        Row(f"{what}: peak memory", ours.peak_mb, "MB", memory, at_most(0.6, "ratio")),
        Row(f"{what}: estimated need", ours.estimated_mb, "MB", Ratio(ours.estimated_mb / ours.grown_mb, "the growth")),
        Row(f"{what}: largest difference of a step's loss", differs, "nats", goal=at_most(1e-5)),
    ]
    if (rounded := results.get("fedloom, bfloat16")) is not None:
        loss = Ratio(rounded.held_out / ours.held_out, "float32")
        found.append(beside(rounded, plain, "TRL", 4.0, "bfloat16"))
        found.append(Row(f"{what}, bfloat16: held-out loss", rounded.held_out, "nats", loss, at_most(1.01, "ratio")))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR")
    parser.add_argument("--model", required=True, metavar="DIR")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--trainers", nargs="+", default=TRAINERS, choices=TRAINERS, metavar="NAME")
    add_option(parser)
    given = parser.parse_args()
    found: list[Row] = []
    for rows in given.rows:
        print(rows, flush=True)
        names = [name for name in TRAINERS if name in given.trainers and not (name in TUNED and kind_of(rows) == "dpo")]
        found += compared(rows, {name: medians(name, plan_of(name, rows, given), given.repeat) for name in names})
    for row in found:
        ratio = f", {row.ratio.value:.2f} x {row.ratio.to}" if row.ratio is not None else ""
        print(f"{row.what}: {row.value:.4g} {row.unit}{ratio}")
    write(given.json, found)


if __name__ == "__main__":
    main()
