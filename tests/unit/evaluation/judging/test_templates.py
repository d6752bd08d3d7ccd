"""The prompts for judges: from their file, and no others."""

from pathlib import Path
from typing import Any

import pytest

from fedloom.evaluation.tasks.base import BadData
from fedloom.evaluation.tasks.registry import TASKS
from tests.support.published.chat import PROMPTS, write_benches
from tests.support.published.files import write_jsonl


def rows(**changed: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "system_prompt": "You judge.", "prompt_template": text}
        for name, text in {**PROMPTS, **changed}.items()
    ]


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (rows(**{"single-v1": "[Q]{question}"}), "single-v1 has the placeholders question, and not FastChat's"),
        (rows(**{"pair-v2": PROMPTS["pair-v2"] + "{x}"}), "pair-v2 has the placeholders"),
        (rows()[1:], "single-v1 is missing"),
        ([*rows()[:-1], rows()[0]], "single-v1 is there twice"),
        ([{"name": "single-v1"}], "row 1 has no system_prompt and no prompt_template"),
    ],
)
def test_other_prompts_are_refused(tmp_path: Path, prompts: list[dict[str, Any]], said: str) -> None:
    write_benches(tmp_path)
    write_jsonl(tmp_path / "judge_prompts.jsonl", prompts)
    with pytest.raises(BadData, match=r"judge_prompts.jsonl: ") as refused:
        TASKS["mt_bench"]().load(tmp_path)
    assert said in str(refused.value)


def test_a_question_without_its_reference_is_refused(tmp_path: Path) -> None:
    write_benches(tmp_path)
    path = tmp_path / "mt_bench/reference_answer_gpt-4.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(BadData, match=r"reference_answer_gpt-4.jsonl has no reference for question 4"):
        TASKS["mt_bench"]().load(tmp_path)


def test_a_question_with_one_turn_is_refused(tmp_path: Path) -> None:
    write_benches(tmp_path)
    (tmp_path / "vicuna_bench/question.jsonl").rename(tmp_path / "mt_bench/question.jsonl")
    with pytest.raises(BadData, match=r"mt_bench/question.jsonl: row 1 has no 2 texts as turns"):
        TASKS["mt_bench"]().load(tmp_path)
