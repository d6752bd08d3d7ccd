"""Prints the final adapter digest of every way to train: seven algorithms, preferences, a frozen A, a quantised base.

    python benchmarks/digests.py [--against CHECKOUT]

Each case runs three rounds with three simulated clients, the quickstart's model and one thread. With ``--against``
another checkout runs the same cases, and the exit status is 1 if a digest differs: a refactoring leaves all digests
unchanged. Digests depend on the machine, the versions of the libraries and the number of threads.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "examples" / "quickstart"
sys.path.insert(0, str(QUICKSTART))

from make_data import make_data, read_rows, write_rows  # noqa: E402

ALGORITHMS = ("fedavg", "fedprox", "scaffold", "fedavgm", "fedadagrad", "fedyogi", "fedadam")
CASES: dict[str, dict[str, Any]] = {
    **{name: {"algorithm": {"name": name}} for name in ALGORITHMS},
    "dpo": {"kind": "dpo", "data": {"name": "pairs"}},
    "frozen A": {"lora": {"rank": 4, "alpha": 8, "freeze_a": True}},
    "int8 base": {"base": {"model": "fedloom/quickstart", "quantization": "int8"}},
}
CAMPAIGN = {
    "base": {"model": "fedloom/quickstart"},
    "lora": {"rank": 4, "alpha": 8},
    "training": {"steps": 3, "batch_size": 4, "max_length": 64, "learning_rate": 0.002, "seed": 1},
    "data": {"name": "records"},
    "rounds": 3,
}
SETTINGS = f"""\
[data.records]
path = "data/records.jsonl"
held_out = 0.1
[data.pairs]
path = "data/pairs.jsonl"
held_out = 0.1
chosen = "chosen"
rejected = "rejected"
[models]
"fedloom/quickstart" = "{QUICKSTART / "model"}"
[compute]
device = "cpu"
threads = 1
"""


def write_files(folder: Path) -> None:
    """Write the data, the clients' settings, and a campaign file for each case."""
    make_data(folder / "data", seed=1)
    rows = read_rows(folder / "data" / "records.jsonl")
    answers = [row["completion"] for row in rows]
    others = answers[7:] + answers[:7]
    write_rows(
        folder / "data" / "pairs.jsonl",
        (
            {"prompt": row["prompt"], "chosen": row["completion"], "rejected": other}
            for row, other in zip(rows, others, strict=True)
            if other != row["completion"]
        ),
    )
    (folder / "agent.toml").write_text(SETTINGS, encoding="utf-8")
    for name, changes in CASES.items():
        spec = CAMPAIGN | changes | {"name": name.replace(" ", "-")}
        (folder / f"{name}.json").write_text(json.dumps(spec), encoding="utf-8")


def digest(checkout: Path, folder: Path, name: str) -> str:
    """Run one case with the code of a checkout. Returns the digest of its final adapter."""
    out = folder / checkout.parent.name / checkout.name / name
    argv = [sys.executable, "-m", "fedloom", "simulate", str(folder / f"{name}.json"), "--clients", "3", "--json"]
    done = subprocess.run(
        [*argv, "--out", str(out)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{name} in {checkout} failed:\n{done.stderr[-2000:]}")
    sha256: str = json.loads(done.stdout)["adapter"]["blob"]["sha256"]
    return sha256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="Another checkout of Fedloom to compare with.")
    other = parser.parse_args().against
    differing = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        for case in CASES:
            ours = digest(ROOT, folder, case)
            verdict = ""
            if other is not None:
                theirs = digest(other.resolve(), folder, case)
                verdict = "  equal" if ours == theirs else f"  differs: {theirs}"
                differing += ours != theirs
            print(f"{case:10}  {ours}{verdict}", flush=True)
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
