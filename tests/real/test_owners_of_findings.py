"""The owners' rows of benchmarks/phrasebank.py and benchmarks/four_domains.py, from the published files."""

import importlib
import json
from collections import Counter
from pathlib import Path

import pytest

from fedloom.evaluation.data.overlap import overlaps, words_of
from fedloom.evaluation.tasks.registry import TASKS
from tests.real.conftest import ROOT, SHARED

DATA = SHARED / "data"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def rows_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def evaluation_data(tmp_path: Path) -> Path:
    """The folder of evaluation data, laid out as users lay it out."""
    folder = tmp_path / "evaluation-data"
    folder.mkdir()
    for path in (DATA / "eval").iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "fpb").symlink_to(DATA / "finance/fpb")
    (folder / "gsm8k").unlink()
    (folder / "gsm8k").mkdir()
    (folder / "gsm8k/test.jsonl").symlink_to(DATA / "eval/gsm8k/test.jsonl")
    (folder / "gsm8k/train.jsonl").symlink_to(DATA / "math/gsm8k_train.jsonl")
    return folder


def test_phrasebank_owners_have_distinct_rows_that_no_test_row_is_among(evaluation_data: Path, tmp_path: Path) -> None:
    module = importlib.import_module("phrasebank")
    test = TASKS["fpb"]().load(evaluation_data).items
    free = module.free_sentences(evaluation_data / "fpb/Sentences_50Agree.txt", test)
    assert Counter(label for _, label in free)["negative"] >= 400, "owners of 400 rows need that many"
    module.share_out(free, tmp_path, 400, 60)
    owned, validation = rows_of(tmp_path / "owners.jsonl"), rows_of(tmp_path / "validation.jsonl")
    prompts = [tuple(words_of(row["prompt"])) for row in (*owned, *validation)]
    assert len(set(prompts)) == len(prompts) == 1260
    skew = Counter((row["owner"], row["completion"]) for row in owned)
    assert [skew["north", label] for label in ("negative", "neutral", "positive")] == [280, 80, 40]
    assert [skew["east", label] for label in ("neutral", "positive", "negative")] == [280, 80, 40]
    assert [skew["south", label] for label in ("positive", "negative", "neutral")] == [280, 80, 40]
    published = {line.rpartition("@")[0]: line.rpartition("@")[2] for line in lines_of(evaluation_data)}
    for row in (*owned, *validation):
        assert published[row["prompt"].partition("\nInput: ")[2].removesuffix("\nAnswer: ")] == row["completion"]
    found = overlaps({"fpb": test}, (row["prompt"] for row in (*owned, *validation)))
    assert not found["fpb"].occurrences


def lines_of(data: Path) -> list[str]:
    return (data / "fpb/Sentences_50Agree.txt").read_text(encoding="iso-8859-1").splitlines()


def test_four_domains_have_distinct_rows_that_hold_no_item(evaluation_data: Path, tmp_path: Path) -> None:
    module = importlib.import_module("four_domains")
    alpaca, code = DATA / "alpaca/alpaca_data_1k.json", DATA / "code/code_alpaca_2k.json"
    names = ("mmlu", "crass", "fpb", "tfns", "gsm8k", "humaneval", "mbpp")
    items = {name: TASKS[name]().load(evaluation_data).items for name in names}
    (evaluation_data / "reply_loss").mkdir()
    module.share_out(module.read_domains(evaluation_data, alpaca, code), items, tmp_path, 400, 800)
    files = ("owners.jsonl", "validation.jsonl", "evaluation-data/reply_loss/rows.jsonl")
    owned, validation, held_out = (rows_of(tmp_path / name) for name in files)
    everything = [*owned, *validation, *held_out]
    assert Counter(row["domain"] for row in owned) == dict.fromkeys(module.DOMAINS, 400)
    assert Counter(row["domain"] for row in held_out) == dict.fromkeys(module.DOMAINS, 50)
    asked = [tuple(words_of(f"{row['instruction']} {row['input']}")) for row in everything]
    assert len(set(asked)) == len(asked) == 4 * (400 + 50 + 4)
    found = overlaps(items, ("\n".join(row.values()) for row in everything))
    assert {name: len(each.occurrences) for name, each in found.items()} == dict.fromkeys(names, 0)
    shots = [json.loads(line)["question"] for line in (evaluation_data / "gsm8k/train.jsonl").open()][:5]
    assert not {row["instruction"] for row in everything} & set(shots)
