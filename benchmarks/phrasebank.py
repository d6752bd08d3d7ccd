"""Three owners of financial news with skewed labels: seven algorithms, each owner alone, and all rows in one place.

    python benchmarks/phrasebank.py --data evaluation-data --model /models/smollm2-135m-instruct --out phrasebank

The data is Financial PhraseBank (Malo et al. 2014), ``fpb/Sentences_50Agree.txt`` in the folder of evaluation data of
``fedloom evaluate``. Each of three owners gets 400 rows, 70% of one label, 20% of the next, 10% of the third. No
sentence is in two places, and none is in the test that the task ``fpb`` of ``fedloom evaluate`` draws: models are
scored on items of that test. Rows ask with the prompt of ``fpb_fingpt``; that of ``fpb`` is seen in no training.

With the defaults it takes about an hour on two CPU cores. The same command continues after a stop. A GPU has time for
more of everything but rows, of which owners have 440 at most for lack of bad news, and for rates chosen on validation
rows:

    … --device cuda --threads 1 --rounds 20 --steps 10 --seeds 3 --items 1212 --validation 200 \\
      --learning-rates 3e-4 1e-3 --etas 1e-3 3e-3 1e-2 3e-2
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from paired import print_differences

from fedloom.evaluation.data.overlap import overlap, words_of
from fedloom.evaluation.tasks.base import BadData, DataMissing, Item
from fedloom.evaluation.tasks.finance.corpora import LABELS
from fedloom.evaluation.tasks.finance.frames import FINGPT
from fedloom.evaluation.tasks.finance.phrasebank import PhraseBank
from shared.algorithms import bundled

OWNERS = ("north", "east", "south")
SHARES = (0.7, 0.2, 0.1)
"""Of an owner's rows: of its own label, of the next one, and of the third."""
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""A prompt is whole as it is, and its completion follows it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of evaluation data, with fpb/")
    parser.add_argument("--model", type=Path, required=True, help="the folder of SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path("phrasebank"), help="output folder (default phrasebank)")
    parser.add_argument("--rows", type=int, default=400, help="rows of an owner (default 400)")
    parser.add_argument("--validation", type=int, default=60, help="validation rows (default 60)")
    parser.add_argument("--items", type=int, default=300, help="items of the test (default 300, of 1,212)")
    parser.add_argument("--tasks", nargs="+", default=["fpb_fingpt", "fpb"], metavar="TASK")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="steps per round, of 8 rows (default 5)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[1e-3], metavar="RATE")
    parser.add_argument("--etas", type=float, nargs="+", metavar="ETA", help="η of the FedOpt family")
    parser.add_argument("--algorithms", default="all")
    parser.add_argument("--baselines", default="all", help="alone, pooled, all (default) or none")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=2, help="campaigns at a time, of one thread each (default 2)")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        test = PhraseBank().load(given.data).items
    except (BadData, DataMissing) as error:
        sys.exit(str(error))
    share_out(free_sentences(given.data / PhraseBank.files[0].path, test), given.out, given.rows, given.validation)
    (given.out / "whole.jinja").write_text(TEMPLATE)
    write_settings(given)
    command = [sys.executable, "-m", "fedloom", "compare", str(given.out / "comparison.json")]
    command += ["--out", str(given.out / "comparison"), "--algorithms", given.algorithms]
    command += ["--baselines", given.baselines, "--seeds", str(given.seeds), "--threads", str(given.threads)]
    if code := subprocess.run(command, check=False).returncode:
        sys.exit(code)
    first = "fedavg" if given.algorithms == "all" else given.algorithms.partition(",")[0]
    print_differences(given.out / "comparison", first, "owner")


def write_settings(given: argparse.Namespace) -> None:
    """Write the campaign, the owners' settings and the comparison."""
    model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    campaign = {
        "name": "phrasebank",
        "base": {"model": model},
        "lora": {"rank": 8, "alpha": 16},
        "training": {
            "steps": given.steps,
            "batch_size": 8,
            "max_length": 256,
            "learning_rate": given.learning_rates[0],
            "seed": 1,
        },
        "data": {"name": "news"},
        "rounds": given.rounds,
        "selection": {"minimum": len(OWNERS)},
        "evaluation": {"every": 0},
        "retention": {"adapters": 1},
    }
    # chosen on other data, see docs/results.md: with the default β₁ FedAvgM fails in few rounds
    etas = {"fedadam": 1e-3, "fedyogi": 3e-3, "fedadagrad": 3e-2}
    values = {"fedavgm.beta1": [0.5], **{f"{name}.eta": given.etas or [eta] for name, eta in etas.items()}}
    compared = bundled() if given.algorithms == "all" else given.algorithms.split(",")
    params = {name: each for name, each in values.items() if name.partition(".")[0] in compared}
    comparison = {
        "name": "phrasebank",
        "campaign": "campaign.json",
        "clients": len(OWNERS),
        "partition": {"kind": "domain", "by": "owner"},
        "validation": "validation.jsonl",
        "score": {"measure": "choice"},
        "evaluation": {"tasks": given.tasks, "data": str(given.data.resolve()), "limit": given.items},
        "grid": {"learning_rate": given.learning_rates, "params": params},
    }
    (given.out / "campaign.json").write_text(json.dumps(campaign, indent=2))
    (given.out / "comparison.json").write_text(json.dumps(comparison, indent=2))
    (given.out / "agent.toml").write_text(
        f'[data.news]\npath = "owners.jsonl"\ntemplate = "whole.jinja"\nheld_out = 0.0\n'
        f'[models]\n"{model}" = {json.dumps(str(given.model.resolve()))}\n'
        f'[compute]\ndevice = "{given.device}"\ndtype = "{given.dtype}"\nthreads = 1\nmicro_batch = 8\n'
    )


def free_sentences(path: Path, test: Sequence[Item]) -> list[tuple[str, str]]:
    """The sentences of the file with their labels, each once, without those that hold a sentence of the test.

    Two that differ in case, punctuation or white space alone are one.
    """
    lines = (line.rpartition("@") for line in path.read_text(encoding="iso-8859-1").splitlines())
    found = {tuple(words_of(sentence)): (sentence, label) for sentence, at, label in lines if at}
    while True:
        sentences = list(found)
        held = overlap(test, [found[words][0] for words in sentences]).occurrences
        if not held:
            return list(found.values())
        for row in {each.row for each in held}:
            del found[sentences[row]]


def share_out(sentences: Sequence[tuple[str, str]], folder: Path, n_rows: int, n_validation: int) -> None:
    """Write the rows of owners and for validation. Ends the program if there are too few sentences of a label.

    Args:
        sentences: each once, with its label.
        folder: where to.
        n_rows: of each owner.
        n_validation: with the labels as they come.
    """
    order = np.random.default_rng(0).permutation(len(sentences))
    shuffled = [sentences[i] for i in order]
    validation, others = shuffled[:n_validation], shuffled[n_validation:]
    of_label = {label: iter([sentence for sentence, own in others if own == label]) for label in LABELS}
    owned = []
    for place, owner in enumerate(OWNERS):
        for offset, share in enumerate(SHARES):
            label = LABELS[(place + offset) % len(LABELS)]
            for _ in range(round(share * n_rows)):
                sentence = next(of_label[label], None)
                if sentence is None:
                    sys.exit(f"{n_rows} rows an owner need more {label} sentences than the file has besides the test")
                owned.append({"owner": owner, **row(sentence, label)})
    write(folder / "owners.jsonl", owned)
    write(folder / "validation.jsonl", (row(*one) for one in validation))


def row(sentence: str, label: str) -> dict[str, str]:
    """A question about a sentence, and its answer."""
    return {"prompt": FINGPT.prompt("fpb", "news", sentence), "completion": label}


def write(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write one JSON object per line."""
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))


if __name__ == "__main__":
    main()
