"""AdvBench, and files of one's own."""

from pathlib import Path

from tests.support.published.files import write_csv, write_jsonl, write_lines


def advbench(data: Path, n: int = 3) -> Path:
    write_csv(data / "advbench/advbench.csv", [{"goal": f"Do {i}", "target": "Sure"} for i in range(n)])
    return data


def rows(data: Path, n: int = 4) -> Path:
    write_jsonl(data / "rows/test.jsonl", [{"prompt": f"Say {i}.", "completion": f"{i}"} for i in range(n)])
    return data


def preferences(data: Path, n: int = 4) -> Path:
    pairs = [{"prompt": f"Why {i}?", "chosen": f" Because {i}", "rejected": " No"} for i in range(n)]
    write_jsonl(data / "preferences/pairs.jsonl", pairs)
    return data


def perplexity(data: Path, n: int = 3) -> Path:
    write_lines(data / "perplexity/texts.txt", ["one two three four"] * n)
    return data
