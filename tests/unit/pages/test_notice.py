"""NOTICE names whose prompts and rules the evaluation uses, and it is in every package."""

import re
import tomllib
from pathlib import Path

import pytest

from fedloom.evaluation.tasks.registry import TASKS

ROOT = Path(__file__).parents[3]
NOTICE = (ROOT / "NOTICE").read_text(encoding="utf-8")
LENDERS = {
    "lm-evaluation-harness": "lm-evaluation-harness",
    "OpenFedLLM": "OpenFedLLM",
    "FinGPT": "FinGPT",
    "bigcode-evaluation-harness": "bigcode-evaluation-harness",
    "octopack": "OctoPack",
    "google-research/mbpp": "MBPP",
    "xlang-ai/DS-1000": "DS-1000",
    "CoNaLa": "CoNaLa",
    "CodeXGLUE": "CodeXGLUE",
    "AllenNLP": "AllenNLP",
    "TruthfulQA, its preamble": "TruthfulQA",
    "rouge-score": "rouge-score",
    "FastChat": "FastChat",
    "human-eval": "bigcode-evaluation-harness",
}
"""Words in the origins of tasks, and the entries of NOTICE."""


@pytest.mark.parametrize("name", list(TASKS))
def test_whoever_lent_a_prompt_or_a_rule_is_named(name: str) -> None:
    origin = TASKS[name]().origin
    lenders = [entry for word, entry in LENDERS.items() if word in origin]
    assert lenders or "Fedloom" in origin, origin
    for entry in lenders:
        assert re.search(rf"^{re.escape(entry)}\b|{re.escape(entry)}, ", NOTICE, re.MULTILINE), entry


def test_each_entry_has_a_licence_and_a_source() -> None:
    heads = re.findall(r"^(?!Fedloom|Licensed|What is|compared|\s)(.+, .+)$\n {2}(\S.*)$", NOTICE, re.MULTILINE)
    assert len(heads) >= 12
    for head, source in heads:
        assert re.search(r"MIT|Apache-2\.0|CC BY|C-UDA", head), head
        assert source.startswith("https://") or "rules of ROUGE-L" in source, head


def test_files_that_it_names_are_there() -> None:
    for path in re.findall(r"fedloom/evaluation/[\w/.]+\w", NOTICE):
        assert (ROOT / path).exists(), path


def test_it_is_in_every_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "NOTICE" in project["project"]["license-files"]
    assert "/NOTICE" in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert "!NOTICE" in (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
