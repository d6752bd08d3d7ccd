"""The owners' rows of benchmarks/phrasebank.py, from a file of a few sentences."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedloom.evaluation.tasks.base import Item

LABELS = ("negative", "neutral", "positive")
Script = Callable[[str], Any]


def rows_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_sentences_are_free_once_and_without_the_test(script: Script, tmp_path: Path) -> None:
    asked = "Sales of the plant rose to EUR 5 mn ."
    lines = [
        f"{asked}@positive",
        f"{asked.upper()}@positive",
        f"As expected , {asked.lower()}@positive",
        "The company employs 40 people .@neutral",
        "The company employs 40 people@neutral",
        "Its profit fell , by 3 % @ the end .@negative",
        "a rest of a table without a label",
    ]
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(lines), encoding="iso-8859-1")
    free = script("phrasebank").free_sentences(path, [Item("0", "", {"text": asked})])
    assert Counter(label for _, label in free) == {"neutral": 1, "negative": 1}
    assert ("Its profit fell , by 3 % @ the end .", "negative") in free


def test_owners_are_skewed_as_stated_and_no_row_is_in_two_places(script: Script, tmp_path: Path) -> None:
    sentences = [(f"sentence {number} of {label}", label) for label in LABELS for number in range(15)]
    script("phrasebank").share_out(sentences, tmp_path, n_rows=10, n_validation=6)
    owned, validation = rows_of(tmp_path / "owners.jsonl"), rows_of(tmp_path / "validation.jsonl")
    assert Counter((row["owner"], row["completion"]) for row in owned) == {
        ("north", "negative"): 7,
        ("north", "neutral"): 2,
        ("north", "positive"): 1,
        ("east", "neutral"): 7,
        ("east", "positive"): 2,
        ("east", "negative"): 1,
        ("south", "positive"): 7,
        ("south", "negative"): 2,
        ("south", "neutral"): 1,
    }
    prompts = [row["prompt"] for row in (*owned, *validation)]
    assert len(set(prompts)) == len(prompts) == 36
    of_sentence = dict(sentences)
    for row in (*owned, *validation):
        sentence = row["prompt"].partition("Input: ")[2].partition("\n")[0]
        assert row["completion"] == of_sentence[sentence]


def test_too_few_sentences_of_a_label_end_it_with_a_reason(script: Script, tmp_path: Path) -> None:
    sentences = [(f"sentence {number} of {label}", label) for label in LABELS for number in range(15)]
    with pytest.raises(SystemExit, match="16 rows an owner need more positive sentences"):
        script("phrasebank").share_out(sentences, tmp_path, n_rows=16, n_validation=0)
