"""Four owners, one a domain: general instructions, mathematics, code and finance; alone and together.

    python benchmarks/four_domains.py --data evaluation-data --general alpaca_data.json --code code_alpaca_20k.json \\
        --model /models/smollm2-135m-instruct --out four-domains

Owners train on rows of Alpaca (Taori et al. 2023), of GSM8K's training set (``gsm8k/train.jsonl`` in the folder of
evaluation data of ``fedloom evaluate``), of Code Alpaca (Chaudhary 2023), and of Financial PhraseBank (``fpb/``). Each
has as many rows, none longer than --characters, so that nothing is cut.

A row that holds an item of a task below, exactly or but for case and punctuation, is left out; how many are is printed.
``fedloom compare`` counts the items in training rows once more, and warns of any. GSM8K's first five rows are left out
too: they are the examples in its prompts. Nobody trains on the rows of ``reply_loss``, 50 of each domain.

Models are scored twice: with many items by what is quick to ask, the likelihood of replies and of labels, and with few
by MMLU, whose prompts are long, and by what models generate: GSM8K, and HumanEval in bubblewrap. With the defaults both
take about an hour on two cores. The same command continues after a stop. A GPU has time for more of everything:

    … --device cuda --threads 1 --rows 3000 --rounds 50 --steps 10 --seeds 3 --items 2000 --slow-items 500 \\
      --slow mmlu gsm8k humaneval mbpp --algorithms all --baselines all
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from paired import named_by_owner, print_differences

from fedloom.evaluation.data.overlap import overlaps, words_of
from fedloom.evaluation.tasks.base import BadData, DataMissing, Item
from fedloom.evaluation.tasks.registry import find_task

DOMAINS = ("general", "math", "code", "finance")
OWN_TASK = f"{Path(__file__).resolve().with_name('reply_loss.py')}:ReplyLoss"
QUICK = [OWN_TASK, "crass", "fpb_likelihood", "tfns_likelihood"]
NOT_SHOWN = ("f1_micro", "f1_weighted")
N_SHOTS = 5
N_HELD_OUT = 50
N_VALIDATION = 4
ASK = "What is the sentiment of this news? Please choose an answer from {negative/neutral/positive}."
COLUMNS = ("instruction", "input", "output")
Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of evaluation data of `fedloom evaluate`")
    parser.add_argument("--general", type=Path, required=True, help="rows of Alpaca: instruction, input, output")
    parser.add_argument("--code", type=Path, required=True, help="rows of Code Alpaca, in the same columns")
    parser.add_argument("--model", type=Path, required=True, help="the folder of SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path("four-domains"), help="output folder (default four-domains)")
    parser.add_argument("--rows", type=int, default=400, help="rows of an owner (default 400)")
    parser.add_argument("--characters", type=int, default=800, help="most characters of a row (default 800)")
    parser.add_argument("--items", type=int, default=200, help="items of a quick task (default 200)")
    parser.add_argument("--slow-items", type=int, default=50, help="items of a slow task (default 50)")
    parser.add_argument("--slow", nargs="+", default=["mmlu", "gsm8k", "humaneval"], metavar="TASK")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="steps per round, of 8 rows (default 5)")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--algorithms", default="fedavg")
    parser.add_argument("--baselines", default="alone", help="alone (default), pooled, all or none")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=2, help="campaigns at a time, of one thread each (default 2)")
    given = parser.parse_args()
    prepare(given)
    command = [sys.executable, "-m", "fedloom", "compare", "--out", str(given.out / "comparison"), "--json"]
    command += ["--algorithms", given.algorithms, "--baselines", given.baselines]
    command += ["--seeds", str(given.seeds), "--threads", str(given.threads)]
    comparison, results = given.out / "comparison", []
    first = "fedavg" if given.algorithms == "all" else given.algorithms.partition(",")[0]
    for name in ("quick", "slow"):  # the second trains nothing: the folder keeps what is trained
        file = str(given.out / f"{name}.json")
        run = subprocess.run([*command, file], check=False, stdout=subprocess.PIPE, text=True)
        if run.returncode:
            sys.exit(run.returncode)
        (given.out / f"results-{name}.json").write_text(run.stdout)
        shutil.copy(comparison / "results.csv", given.out / f"results-{name}.csv")
        results.append(json.loads(run.stdout))
        print_differences(comparison, first, "domain", own=[find_task(OWN_TASK)])
    print_table(results, named_by_owner(comparison / "data/seed-1", "domain"))


def prepare(given: argparse.Namespace) -> None:
    """Write the rows, the campaign, the owners' settings and a comparison for each pass."""
    own_data = given.out / "evaluation-data"
    for folder in (given.out, own_data, own_data / "reply_loss"):
        folder.mkdir(parents=True, exist_ok=True)
    for path in given.data.resolve().iterdir():
        link = own_data / path.name
        if path.name != "reply_loss":
            link.unlink(missing_ok=True)
            link.symlink_to(path)
    tasks = {"quick": (QUICK, given.items), "slow": (given.slow, given.slow_items)}
    published = [name for name in (*QUICK, *given.slow) if name != OWN_TASK]
    try:
        items = {name: find_task(name).load(given.data).items for name in published}
    except (BadData, DataMissing) as error:
        sys.exit(str(error))
    share_out(read_domains(given.data, given.general, given.code), items, given.out, given.rows, given.characters)
    model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    campaign = {
        "name": "four-domains",
        "base": {"model": model},
        "lora": {"rank": 8, "alpha": 16},
        "training": {
            "steps": given.steps,
            "batch_size": 8,
            "max_length": 512,
            "learning_rate": given.learning_rate,
            "seed": 1,
        },
        "data": {"name": "rows", "template": "alpaca"},
        "rounds": given.rounds,
        "selection": {"minimum": len(DOMAINS)},
        "evaluation": {"every": 0},
        "retention": {"adapters": 1},
    }
    (given.out / "campaign.json").write_text(json.dumps(campaign, indent=2))
    (given.out / "agent.toml").write_text(
        '[data.rows]\npath = "owners.jsonl"\nprompt = "instruction"\ninput = "input"\ncompletion = "output"\n'
        f'held_out = 0.0\n[models]\n"{model}" = {json.dumps(str(given.model.resolve()))}\n'
        f'[compute]\ndevice = "{given.device}"\ndtype = "{given.dtype}"\nthreads = 1\nmicro_batch = 8\n'
    )
    for name, (names, limit) in tasks.items():
        comparison = {
            "name": "four-domains",
            "campaign": "campaign.json",
            "clients": len(DOMAINS),
            "partition": {"kind": "domain", "by": "domain"},
            "validation": "validation.jsonl",
            "evaluation": {"tasks": names, "data": "evaluation-data", "limit": limit},
        }
        (given.out / f"{name}.json").write_text(json.dumps(comparison, indent=2))


def read_domains(data: Path, general: Path, code: Path) -> dict[str, list[Row]]:
    """Rows of each domain that may be trained on but for what the tasks ask."""
    questions = [json.loads(line) for line in (data / "gsm8k/train.jsonl").read_text(encoding="utf-8").splitlines()]
    news = (data / "fpb/Sentences_50Agree.txt").read_text(encoding="iso-8859-1").splitlines()
    return {
        "general": [row_of(*map(each.get, COLUMNS)) for each in json.loads(general.read_text(encoding="utf-8"))],
        "math": [row_of(each["question"], "", each["answer"]) for each in questions[N_SHOTS:]],
        "code": [row_of(*map(each.get, COLUMNS)) for each in json.loads(code.read_text(encoding="utf-8"))],
        "finance": [row_of(ASK, sentence, label) for sentence, _, label in (line.rpartition("@") for line in news)],
    }


def row_of(*texts: str) -> Row:
    """A row in the columns of Alpaca."""
    return dict(zip(COLUMNS, texts, strict=True))


def share_out(
    domains: Mapping[str, Sequence[Row]],
    items: Mapping[str, Sequence[Item]],
    folder: Path,
    n_rows: int,
    n_characters: int,
) -> None:
    """Write owners' rows, validation rows and those of ``reply_loss``; no row is in two places.

    Ends the program if a domain has too few rows.

    Args:
        domains: rows of each.
        items: of each task; no row may hold one.
        folder: where to.
        n_rows: of each owner.
        n_characters: the most of a row.
    """
    owned, validation, held_out = [], [], []
    for domain, rows in domains.items():
        short = distinct(row for row in rows if row["output"].strip() and sum(map(len, row.values())) <= n_characters)
        free, n_left_out = without_items(short, items)
        print(f"{domain}: {n_left_out} of {len(short):,} rows hold an item of a task, and are left out")
        if len(free) < n_rows + N_HELD_OUT + N_VALIDATION:
            sys.exit(f"{domain}: only {len(free):,} rows of at most {n_characters} characters; set --rows lower")
        random.Random(0).shuffle(free)
        of_domain = iter({"domain": domain, **row} for row in free)
        held_out += islice(of_domain, N_HELD_OUT)
        validation += islice(of_domain, N_VALIDATION)
        owned += islice(of_domain, n_rows)
    write(folder / "owners.jsonl", owned)
    write(folder / "validation.jsonl", validation)
    write(folder / "evaluation-data/reply_loss/rows.jsonl", held_out)


def distinct(rows: Iterable[Row]) -> list[Row]:
    """One row for each instruction with its input, but for case and punctuation."""
    return list({tuple(words_of(f"{row['instruction']} {row['input']}")): row for row in rows}.values())


def without_items(rows: Sequence[Row], items: Mapping[str, Sequence[Item]]) -> tuple[list[Row], int]:
    """The rows that hold no item of a task, and how many do."""
    free = list(rows)
    while True:
        found = overlaps(items, ("\n".join(row.values()) for row in free))
        holding = {each.row for overlap in found.values() for each in overlap.occurrences}
        if not holding:
            return free, len(rows) - len(free)
        free = [row for number, row in enumerate(free) if number not in holding]


def print_table(results: Sequence[Mapping[str, Any]], named: Callable[[str], str]) -> None:
    """Print a line for each metric, with how many items it is of, and a column for each model."""
    of_rows = [{row["name"]: row["evaluation"] for row in each["rows"]} for each in results]
    names = list(of_rows[0])
    print("\t".join(["task", "metric", "items", *map(named, names)]))
    for one in of_rows:
        for numbers in zip(*(one[name] for name in names), strict=True):
            task, metric = numbers[0]["task"], numbers[0]["metric"]
            if metric not in NOT_SHOWN:
                items = f"{numbers[0]['n_asked']} of {numbers[0]['n_published'] or numbers[0]['n_asked']}"
                print("\t".join([task, metric, items, *map(cell, numbers)]))


def cell(number: Mapping[str, Any]) -> str:
    """A mean, with the standard deviation over seeds if there are several; shares in per cent."""
    if number["mean"] is None:
        return "not run"
    factor, digits = (1, 3) if number["task"] == "reply_loss" else (100, 1)
    spread = f" ± {factor * number['spread']:.{digits}f}" if number["spread"] is not None else ""
    return f"{factor * number['mean']:.{digits}f}{spread}"


def write(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write one JSON object per line."""
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))


if __name__ == "__main__":
    main()
