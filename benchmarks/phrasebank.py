"""Three owners of financial news with skewed labels: alone, together, and pooled, with equal steps.

    python benchmarks/phrasebank.py --sentences Sentences_AllAgree.txt --model /models/smollm2-135m-instruct

The data is Financial PhraseBank (Malo et al. 2014), with a sentence and its sentiment per line. Each of three owners
gets 200 rows, 70% of one label, 20% of the next, 10% of the third. Another 150 rows are for choosing rates, and 300 for
the test, both with the label distribution of the file. The prediction is the most likely of the three labels; the
scores are accuracy and macro-F1.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

LABELS = ("negative", "neutral", "positive")
OWNERS = ("north", "east", "south")
ROWS_OF_OWNER = (140, 40, 20)
N_VALIDATION, N_TEST = 150, 300
ASK = "What is the sentiment of this news? Answer with negative, neutral or positive."

CAMPAIGN = """\
name: phrasebank
base: {model: HuggingFaceTB/SmolLM2-135M-Instruct}
lora: {rank: 8, alpha: 16}
training: {steps: 10, batch_size: 8, max_length: 160, learning_rate: 3.0e-4, seed: 1}
data: {name: news}
rounds: 8
selection: {minimum: 3}
evaluation: {every: 0}
retention: {adapters: 1}
"""
SETTINGS = """\
[data.news]
path = "owners.jsonl"
held_out = 0.0
[models]
"HuggingFaceTB/SmolLM2-135M-Instruct" = MODEL
[compute]
device = "cpu"
threads = 1
micro_batch = 8
"""
COMPARISON = """\
name: phrasebank
clients: 3
partition: {kind: domain, by: owner}
validation: validation.jsonl
test: test.jsonl
score: {measure: choice}
grid: GRID
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=Path, required=True, help="a file such as Sentences_AllAgree.txt")
    parser.add_argument("--model", type=Path, required=True, help="the folder of SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path("phrasebank"), help="output folder (default phrasebank)")
    parser.add_argument("--algorithms", default="fedavg,scaffold")
    parser.add_argument("--baselines", default="alone", help="alone (default), pooled, all or none")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[3e-4], metavar="RATE")
    parser.add_argument("--etas", type=float, nargs="+", default=[1e-3], metavar="ETA", help="η of the FedOpt family")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    share_out(read_sentences(given.sentences), given.out)
    grid = {"learning_rate": given.learning_rates, "params": {"eta": given.etas}}
    (given.out / "campaign.yaml").write_text(CAMPAIGN)
    (given.out / "agent.toml").write_text(SETTINGS.replace("MODEL", json.dumps(str(given.model.resolve()))))
    (given.out / "comparison.yaml").write_text(COMPARISON.replace("GRID", json.dumps(grid)))
    command = [sys.executable, "-m", "fedloom", "compare", str(given.out / "comparison.yaml")]
    command += ["--out", str(given.out / "comparison"), "--algorithms", given.algorithms]
    command += ["--baselines", given.baselines, "--seeds", str(given.seeds)]
    sys.exit(subprocess.run(command, check=False).returncode)


def read_sentences(path: Path) -> list[tuple[str, str]]:
    """Read the sentences with their labels, each sentence once."""
    labels = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        sentence, _, label = line.rpartition("@")
        labels[sentence.strip()] = label
    return list(labels.items())


def share_out(sentences: list[tuple[str, str]], folder: Path) -> None:
    """Write the rows of owners, validation and test; no sentence is in two files."""
    random = np.random.default_rng(0)
    shuffled = [sentences[i] for i in random.permutation(len(sentences))]
    test, shuffled = shuffled[:N_TEST], shuffled[N_TEST:]
    validation, shuffled = shuffled[:N_VALIDATION], shuffled[N_VALIDATION:]
    of_label = {label: iter([sentence for sentence, own in shuffled if own == label]) for label in LABELS}
    owned = [
        {"owner": owner, **row(next(of_label[label]), label)}
        for place, owner in enumerate(OWNERS)
        for offset, n_rows in enumerate(ROWS_OF_OWNER)
        for label in [LABELS[(place + offset) % len(LABELS)]]
        for _ in range(n_rows)
    ]
    write(folder / "owners.jsonl", owned)
    write(folder / "validation.jsonl", (row(*one) for one in validation))
    write(folder / "test.jsonl", (row(*one) for one in test))


def row(sentence: str, label: str) -> dict[str, str]:
    """Make a question about a sentence."""
    return {"prompt": f"{ASK}\n\n{sentence}", "completion": label}


def write(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write one JSON object per line."""
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))


if __name__ == "__main__":
    main()
