"""The sets that lm-evaluation-harness asks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedloom.evaluation.tasks.general.bbh_parts import PARTS
from fedloom.evaluation.tasks.general.mmlu_subjects import SUBJECTS
from tests.support.published.files import write, write_cells, write_jsonl

ALL_SUBJECTS = [subject for each in SUBJECTS.values() for subject in each]
NOUNS = ["water", "fever", "market", "river", "heart", "bread", "winter", "number", "school", "engine"]


def mmlu_cells(subject: str, n: int, offset: int = 0) -> list[list[str]]:
    return [
        [
            f"In {subject}, what does the {NOUNS[i % 10]} number {i} do?",
            "rise",
            "fall, then rise",
            f"{i}",
            "stay",
            "ABCD"[i * 7 % 4],
        ]
        for i in range(offset, offset + n)
    ]


def mmlu(data: Path, n: int = 2, subjects: Sequence[str] = ALL_SUBJECTS) -> Path:
    for subject in subjects:
        write_cells(data / f"mmlu/test/{subject}_test.csv", mmlu_cells(subject, n))
        write_cells(data / f"mmlu/dev/{subject}_dev.csv", mmlu_cells(subject, 5, 1000))
    return data


def bbh_prompts(part: str) -> str:
    shots = "\n\n".join(
        f"Q: Does the {noun} of {part} rise?\nOptions:\n(A) yes\n(B) no\nA: Let's think step by step.\n"
        f"The {noun} rises. So the answer is ({letter})."
        for noun, letter in zip(NOUNS[:3], "ABA", strict=True)
    )
    return f"A line about where this is from.\n-----\nSay what happens in {part}.\n\n{shots}"


def bbh(data: Path, n: int = 2) -> Path:
    for part in PARTS:
        rows = [
            {"input": f"Does the {NOUNS[i]} fall in {part}?", "target": ["(A)", "7", "True"][i % 3]} for i in range(n)
        ]
        write(data / f"bbh/{part}.json", {"canary": "none", "examples": rows})
        write(data / f"bbh/cot-prompts/{part}.txt", bbh_prompts(part))
    return data


def drop_answer(number: str = "", spans: Sequence[str] = (), year: str = "") -> dict[str, Any]:
    return {"number": number, "date": {"day": "", "month": "", "year": year}, "spans": list(spans)}


DROP_QUESTIONS = [
    ("How many boats came?", drop_answer("12"), []),
    ("Who came?", drop_answer(spans=["the Heron", "Ina Brandt"]), [drop_answer(spans=["Heron"]), drop_answer("3")]),
    ("When was it?", drop_answer(year="1893"), [drop_answer(year="1893")]),
    ("What did they bring?", drop_answer(spans=["An old engine"]), []),
]


def drop(data: Path) -> Path:
    pairs = [
        {"question": question, "answer": answer, "query_id": f"q{i}", "validated_answers": validated}
        for i, (question, answer, validated) in enumerate(DROP_QUESTIONS)
    ]
    content = {
        "history_1": {"passage": "Twelve boats came in 1893.", "qa_pairs": pairs[:3]},
        "history_2": {"passage": "They brought an old engine.", "qa_pairs": pairs[3:]},
    }
    write(data / "drop/drop_dataset_dev.json", content)
    return data


def crass_rows(n: int) -> list[tuple[str, str, list[str]]]:
    """Premise, question and options, the right one first; every other has three options."""
    return [
        (
            f"The {NOUNS[i % 10]} number {i} falls.",
            "What if it had not?",
            ["It would stay.", "It would sing.", "It would melt.", "Nothing."][: 3 + i % 2],
        )
        for i in range(n)
    ]


def crass(data: Path, n: int = 40) -> Path:
    lines = ["PCTID;Scenario;Premise;QCC;CorrectAnswer;Answer1;Answer2;PossibleAnswer3"]
    lines += [
        ";".join([str(i), "1", premise, question, *options, *[""] * (4 - len(options))])
        for i, (premise, question, options) in enumerate(crass_rows(n))
    ]
    write(data / "crass/CRASS_FTM_main_data_set.csv", "\n".join(lines) + "\n")
    return data


def crass_big_bench(n: int) -> dict[str, Any]:
    examples = [
        {"input": f"{premise} {question}", "target_scores": {option: int(i == 0) for i, option in enumerate(options)}}
        for premise, question, options in crass_rows(n)
    ]
    return {"canary": "none", "examples": examples}


def medqa_rows(n: int) -> list[dict[str, Any]]:
    rows = []
    for i in range(n):
        options = {letter: f"{NOUNS[(i + j) % 10]} {i}" for j, letter in enumerate("ABCD")}
        letter = "ABCD"[i * 3 % 4]
        row = {"question": f"Patient {i} has a fever. What helps?", "answer": options[letter], "options": options}
        rows.append(row | {"answer_idx": letter, "meta_info": "step1"})
    return rows


def medqa(data: Path, n: int = 40) -> Path:
    write_jsonl(data / "medqa/medqa_us_4opt_test.jsonl", medqa_rows(n))
    return data


def medmcqa_rows(n: int, begin: int = 1) -> list[dict[str, Any]]:
    return [
        {"question": f"Which of {i} is true?", "exp": None, "cop": i % 4 + begin, "opa": "water", "opb": "none of them"}
        | {"opc": "NA", "opd": f"bread {i}", "subject_name": "Physiology" if i % 3 else "Surgery", "id": f"id-{i}"}
        for i in range(n)
    ]


def medmcqa(data: Path, n: int = 40, begin: int = 1) -> Path:
    write_jsonl(data / "medmcqa/dev.json", medmcqa_rows(n, begin))
    return data


def pubmedqa_rows(n: int) -> dict[str, Any]:
    return {
        str(9000 + i): {
            "QUESTION": f"Does treatment {i} help?",
            "CONTEXTS": [f"We treated {i}.", "It was cold."],
            "LABELS": ["A", "B"],
            "MESHES": [],
            "final_decision": ["yes", "yes", "no", "yes", "maybe"][i % 5],
            "LONG_ANSWER": "secret",
        }
        for i in range(n)
    }


def pubmedqa(data: Path, n: int = 60) -> Path:
    rows = pubmedqa_rows(n)
    test = {name: row["final_decision"] for name, row in list(rows.items())[::2]}
    write(data / "pubmedqa/ori_pqal.json", rows)
    write(data / "pubmedqa/test_ground_truth.json", test)
    return data


def gsm8k_rows(n: int, offset: int = 0) -> list[dict[str, str]]:
    return [
        {
            "question": f"Ann has {i} boats and buys {i + 1}. How many has she?",
            "answer": f"She has {i} + {i + 1} = <<{i}+{i + 1}={2 * i + 1}>>{2 * i + 1} boats.\n#### {2 * i + 1:,}",
        }
        for i in range(offset, offset + n)
    ]


def gsm8k(data: Path, n: int = 12) -> Path:
    write_jsonl(data / "gsm8k/test.jsonl", gsm8k_rows(n, 600))
    write_jsonl(data / "gsm8k/train.jsonl", gsm8k_rows(6))
    return data


def truthfulqa_rows(n: int) -> list[dict[str, Any]]:
    return [
        {
            "question": f"What happens to the {NOUNS[i % 10]} number {i}?",
            "mc0_targets": {"It stays": 1, "It sings": 0},
            "mc1_targets": {f"It {i}"[: 2 + i % 5]: 1, "sings": 0, **({"It dies": 0, "None": 0} if i % 2 else {})},
            "mc2_targets": {f"It stays {i}": 1, "Nothing": 1, "It sings": 0, "It dies": 0},
        }
        for i in range(n)
    ]


def truthfulqa(data: Path, n: int = 40) -> Path:
    write(data / "truthfulqa/mc_task.json", truthfulqa_rows(n))
    return data
