"""MT-Bench and Vicuna-Bench in the layout of FastChat, with prompts for judges that have its placeholders."""

from pathlib import Path
from typing import Any

from tests.support.published.files import write_jsonl

CATEGORIES = ("writing", "math", "humanities", "coding")
PROMPTS = {
    "single-v1": "[Q]{question}[A]{answer}",
    "single-math-v1": "[Q]{question}[R]{ref_answer_1}[A]{answer}",
    "single-v1-multi-turn": "[Q1]{question_1}[A1]{answer_1}[Q2]{question_2}[A2]{answer_2}",
    "single-math-v1-multi-turn": (
        "[Q1]{question_1}[R1]{ref_answer_1}[Q2]{question_2}[R2]{ref_answer_2}"
        "[Q1]{question_1}[A1]{answer_1}[Q2]{question_2}[A2]{answer_2}"
    ),
    "pair-v2": "[Q]{question}[A]{answer_a}[B]{answer_b}",
    "pair-math-v1": "[Q]{question}[R]{ref_answer_1}[A]{answer_a}[B]{answer_b}",
    "pair-v2-multi-turn": (
        "[Q1]{question_1}[A1]{answer_a_1}[Q2]{question_2}[A2]{answer_a_2}"
        "[Q1]{question_1}[B1]{answer_b_1}[Q2]{question_2}[B2]{answer_b_2}"
    ),
    "pair-math-v1-multi-turn": (
        "[Q1]{question_1}[R1]{ref_answer_1}[Q2]{question_2}[R2]{ref_answer_2}"
        "[Q1]{question_1}[A1]{answer_a_1}[Q2]{question_2}[A2]{answer_a_2}"
        "[Q1]{question_1}[B1]{answer_b_1}[Q2]{question_2}[B2]{answer_b_2}"
    ),
}


def write_benches(folder: Path, n: int = 4, **changes: Any) -> Path:
    """Questions 1 to n of both sets; the first 8 by turns in all categories. changes: of all prompts' rows."""
    ids = range(1, n + 1)
    category = {i: CATEGORIES[(i - 1) % 4] if i <= 8 else CATEGORIES[(i - 1) % 2 * 2] for i in ids}
    for name, n_turns in (("mt_bench", 2), ("vicuna_bench", 1)):
        turns = range(1, n_turns + 1)
        rows = [
            {"question_id": i, "category": category[i], "turns": [f"question {i}.{turn}" for turn in turns]}
            for i in ids
        ]
        references = [
            {"question_id": i, "choices": [{"turns": [f"reference {i}.{turn}" for turn in turns]}]}
            for i in ids
            if category[i] in ("math", "coding")
        ]
        write_jsonl(folder / name / "question.jsonl", rows)
        write_jsonl(folder / name / "reference_answer_gpt-4.jsonl", references)
    prompts = [
        {"name": name, "system_prompt": f"You judge: {name}", "prompt_template": text, **changes}
        for name, text in PROMPTS.items()
    ]
    write_jsonl(folder / "judge_prompts.jsonl", prompts)
    return folder
