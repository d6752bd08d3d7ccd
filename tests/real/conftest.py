"""The real small model and real data slices; the tests are skipped where these are missing."""

import csv
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)
            if not (SHARED / "tools" / "make_smollm2.sh").exists():
                item.add_marker(pytest.mark.skip(reason="the real model and data are missing"))
    items.sort(key=lambda item: item.path.name != "test_three_owners.py")  # the longest first, the others beside it


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, made once and then reused."""
    folder = ROOT / ".cache" / "smollm2"
    script = SHARED / "tools" / "make_smollm2.sh"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # one worker makes it
        subprocess.run(["bash", str(script), str(folder), sys.executable], check=True, capture_output=True)
    return folder


def finance_rows() -> list[dict[str, str]]:
    """PhraseBank: sentences with their sentiment."""
    text = (SHARED / "data/finance/fpb/Sentences_AllAgree.txt").read_text(encoding="latin-1")
    ask = "What is the sentiment of this news? Answer with negative, neutral or positive."
    rows = (line.rpartition("@") for line in text.splitlines())
    return shuffled([{"prompt": f"{ask}\n\n{sentence}", "completion": label} for sentence, _, label in rows])


def medical_rows() -> list[dict[str, str]]:
    """Medical questions and answers."""
    rows = json.loads((SHARED / "data/medical/medical_meadow_small.json").read_text())
    pairs = [{"question": row["input"], "answer": row["output"]} for row in rows if row["input"] and row["output"]]
    return shuffled(pairs)


def code_rows() -> list[dict[str, str]]:
    """Programming tasks."""
    rows: list[dict[str, str]] = json.loads((SHARED / "data/code/code_alpaca_2k.json").read_text())
    return shuffled([row for row in rows if row["output"]])


def shuffled(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Shuffle in a fixed random order, because the files are sorted by label or subject."""
    random.Random(0).shuffle(rows)
    return rows


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_json(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text(json.dumps(rows))


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


Writer = Callable[[Path, list[dict[str, str]]], None]
