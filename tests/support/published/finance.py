"""The sets of financial sentiment."""

from pathlib import Path
from typing import Any

from tests.support.published.files import write_csv, write_jsonl, write_lines, write_parquet

FPB = "fpb/Sentences_50Agree.txt"
SPLITS = ("train", "validation", "test")
SEVEN = {
    "strong negative": "negative",
    "moderately negative": "negative",
    "mildly negative": "neutral",
    "neutral": "neutral",
    "mildly positive": "neutral",
    "moderately positive": "positive",
    "strong positive": "positive",
}
"""The labels of NWGI, and what they become."""


def fpb(data: Path, n: int = 8, encoding: str = "utf-8", sentence: str = "Sentence {} .@neutral") -> Path:
    write_lines(data / FPB, [sentence.format(i) for i in range(n)], encoding)
    return data


def fiqa_rows(n: int, name: str) -> list[dict[str, Any]]:
    kinds = ["post", "headline"]
    return [
        {"sentence": f"{name} {i}", "sentiment_score": -0.5, "format": kinds[i % 2], "target": "X"} for i in range(n)
    ]


def fiqa(data: Path, sizes: tuple[int, int, int] = (4, 4, 4)) -> Path:
    for split, n in zip(SPLITS, sizes, strict=True):
        write_csv(data / f"fiqa_scores/{split}.csv", fiqa_rows(n, split))
    return data


def fiqa_labelled(data: Path, n: int = 3) -> Path:
    rows = [{"sentence": f"s {i}", "label": "Negative", "othermodel": "positive"} for i in range(n)]
    write_csv(data / "fiqa_sa_csv/test.csv", rows)
    return data


def prompted(text: str, label: str, kind: str) -> list[dict[str, Any]]:
    """Ten prompts to a text."""
    ask = f"Analyze this financial {kind}: Positive, Negative, or Neutral?\nText: a post or a headline\nAnswer:"
    talk = [{"from": "human", "value": ask}, {"from": "agent", "value": label}]
    return [{"id": f"{text}{n}", "conversations": talk, "text": f"Text: {text}", "label": label} for n in range(10)]


def fiqa_prompted(data: Path) -> Path:
    rows = [*prompted("a", "Negative", "post"), *prompted("b", "Neutral", "headline")]
    write_jsonl(data / "fiqa_sa/test.jsonl", rows)
    return data


def tfns(data: Path, n: int = 6) -> Path:
    write_csv(data / "tfns/sent_valid.csv", [{"text": str(i), "label": i % 3} for i in range(n)])
    return data


def nwgi_rows() -> list[dict[str, Any]]:
    counts = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return [{"news": f"n {i}", "prompt": "p", "out": "o", **counts, "label": label} for i, label in enumerate(SEVEN)]


def nwgi(data: Path) -> Path:
    write_parquet(data / "nwgi/test.parquet", nwgi_rows())
    return data
