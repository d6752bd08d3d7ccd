"""Three owners of preferences align one model together: reward accuracy on held-out pairs.

    python benchmarks/hh_rlhf.py --pairs harmless-base_test.jsonl --model /models/smollm2-135m-instruct

The data is Anthropic's HH-RLHF (Bai et al. 2022): two transcripts per line that differ in the assistant's last reply.
The rows are split among three owners; each holds out a share for evaluation, chosen by content. The campaign is of kind
dpo with the base model as its reference. The table shows for each owner the share of held-out pairs that the model
ranks correctly, with the standard error √(p (1 − p) / n). In round 0 the model is its own reference and ranks no pair,
so the baseline is chance, one half.
"""

import argparse
import csv
import json
import math
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

CAMPAIGN = """\
name: hh-rlhf
kind: dpo
base: {model: HuggingFaceTB/SmolLM2-135M-Instruct}
lora: {rank: 8, alpha: 16}
training: {steps: STEPS, batch_size: 8, max_length: LENGTH, learning_rate: RATE, min_learning_rate: 1.0e-5, seed: 1}
dpo: {beta: 0.1}
data: {name: preferences, template: chat}
rounds: ROUNDS
selection: {minimum: 3}
evaluation: {every: EVERY}
retention: {adapters: 1}
"""
SETTINGS = """\
[data.preferences]
preset = "hh-rlhf"
path = PAIRS
held_out = 0.6
[models]
"HuggingFaceTB/SmolLM2-135M-Instruct" = MODEL
[compute]
device = "cpu"
threads = 2
micro_batch = 2
"""
METRICS = ("held_out_loss", "held_out_margin", "held_out_accuracy", "held_out_rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="a file of HH-RLHF, .jsonl or .jsonl.gz")
    parser.add_argument("--model", type=Path, required=True, help="the folder of SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path("hh-rlhf"), help="output folder (default hh-rlhf)")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8, help="steps per round (default 8)")
    parser.add_argument("--every", type=int, default=4, help="evaluate after every n rounds (default 4)")
    parser.add_argument("--max-length", type=int, default=192, help="tokens of prompt and completion (default 192)")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    numbers = {"STEPS": given.steps, "LENGTH": given.max_length, "RATE": given.learning_rate}
    numbers |= {"ROUNDS": given.rounds, "EVERY": given.every}
    (given.out / "campaign.yaml").write_text(_filled(CAMPAIGN, numbers))
    places = {"PAIRS": given.pairs.resolve(), "MODEL": given.model.resolve()}
    (given.out / "agent.toml").write_text(_filled(SETTINGS, {name: json.dumps(str(p)) for name, p in places.items()}))
    command = [sys.executable, "-m", "fedloom", "simulate", str(given.out / "campaign.yaml")]
    command += ["--settings", str(given.out / "agent.toml"), "--out", str(given.out / "simulation"), "--clients", "3"]
    code = subprocess.run(command, check=False).returncode
    if code == 0:
        show(given.out / "simulation" / "metrics.csv")
    sys.exit(code)


def _filled(text: str, values: dict[str, object]) -> str:
    for name, value in values.items():
        text = text.replace(name, str(value))
    return text


def show(path: Path) -> None:
    """Print each owner's metrics by round, as a Markdown table."""
    metrics: dict[tuple[int, str], dict[str, float]] = defaultdict(dict)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["name"] in METRICS:
                metrics[int(row["round"]), row["client"] or "all"][row["name"]] = float(row["value"])
    chance = "none ranked; chance 0.500"
    print("| round | owner | held-out pairs | loss | margin | reward accuracy |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for (number, client), values in sorted(metrics.items()):
        n_pairs = values.get("held_out_rows") or sum(
            of_client["held_out_rows"]
            for (other, name), of_client in metrics.items()
            if other == number and name != "all"
        )
        share = values["held_out_accuracy"]
        error = math.sqrt(share * (1 - share) / n_pairs)
        right = f"{share:.3f} ± {error:.3f}" if values["held_out_margin"] else chance
        numbers = f"{values['held_out_loss']:.4f} | {values['held_out_margin']:+.4f} | {right}"
        print(f"| {number} | {client} | {n_pairs:.0f} | {numbers} |")


if __name__ == "__main__":
    main()
