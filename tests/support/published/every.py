"""For each file that tasks read, who writes a made-up one."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.published import chat, code, finance, harness, own

WRITERS: Mapping[str, Callable[[Path], Path]] = {
    "mmlu": harness.mmlu,
    "bbh": harness.bbh,
    "drop": harness.drop,
    "crass": harness.crass,
    "medqa": harness.medqa,
    "medmcqa": harness.medmcqa,
    "pubmedqa": harness.pubmedqa,
    "gsm8k": harness.gsm8k,
    "truthfulqa": harness.truthfulqa,
    "fpb": finance.fpb,
    "fiqa_scores": finance.fiqa,
    "fiqa_sa_csv": finance.fiqa_labelled,
    "tfns": finance.tfns,
    "nwgi": finance.nwgi,
    "advbench": own.advbench,
    "rows": own.rows,
    "preferences": own.preferences,
    "perplexity": own.perplexity,
    "mt_bench": chat.write_benches,
    "vicuna_bench": chat.write_benches,
    "judge_prompts.jsonl": chat.write_benches,
    "humaneval": code.humaneval,
    "humanevalpack": code.humanevalpack,
    "mbpp": code.mbpp,
    "ds1000": code.ds1000,
    "conala": code.conala,
    "concode": code.concode,
}
"""By the folder of the file."""


def write_for(paths: list[str], data: Path) -> Path:
    """Write what a task needs to be read. paths: of its files."""
    for folder in dict.fromkeys(path.partition("/")[0] for path in paths):
        if folder in WRITERS:
            WRITERS[folder](data)
    return data
