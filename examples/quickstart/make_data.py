"""Draws the owners' records and the exam questions.

    python examples/quickstart/make_data.py FOLDER --seed 1

writes `records.jsonl` (the records of the three owners, named in the column `owner`), `validation.jsonl` and
`test.jsonl` (questions about the same facts, in phrasings that no training row has).
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from world import KINDS, Split, draw, questions

THINGS_AN_OWNER = 16
FILES = {Split.TRAIN: "records.jsonl", Split.VALIDATION: "validation.jsonl", Split.TEST: "test.jsonl"}


def make_data(folder: Path, seed: int) -> None:
    """Write the three files."""
    random = np.random.default_rng(seed)
    things = [thing for kind in KINDS for thing in draw(kind, THINGS_AN_OWNER, random)]
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in FILES.items():
        write_rows(folder / name, (row for thing in things for row in questions(thing, split)))


def write_rows(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write one JSON object per line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a file of ``write_rows``."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    make_data(given.folder, given.seed)
