"""Files of the tasks: other layouts of the same set, and files that are truncated, edited, or of another split."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedloom.evaluation.tasks.base import BadData, Item
from fedloom.evaluation.tasks.registry import TASKS
from tests.support.published import harness as published
from tests.support.published.files import write, write_jsonl, write_parquet

Write = Callable[[Path], Path]

WRITERS: dict[str, Write] = {
    "mmlu_other": published.mmlu,
    "bbh": published.bbh,
    "drop": published.drop,
    "crass": published.crass,
    "medqa": published.medqa,
    "medmcqa": published.medmcqa,
    "pubmedqa": published.pubmedqa,
    "gsm8k": published.gsm8k,
    "truthfulqa_mc1": published.truthfulqa,
    "truthfulqa_mc2": published.truthfulqa,
}


def load(name: str, data: Path) -> list[Item]:
    return list(TASKS[name]().load(data).items)


def contents(name: str, data: Path) -> list[dict[str, Any]]:
    return [dict(item.content) for item in load(name, data)]


@pytest.mark.parametrize("name", list(WRITERS))
def test_items_are_the_same_in_every_run_and_say_that_they_are_a_slice(name: str, tmp_path: Path) -> None:
    data = WRITERS[name](tmp_path)
    task = TASKS[name]()
    first, again = task.load(data), TASKS[name]().load(data)
    assert first == again
    assert len({item.id for item in first.items}) == len(first.items) < first.n_published
    assert any(note.startswith("a slice: ") for note in first.notes)
    assert set(first.digests) <= {file.path for file in task.files}
    assert all(len(digest) == 64 for digest in first.digests.values())
    json.dumps([dict(item.content) for item in first.items])


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_file_that_breaks_off_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    data = WRITERS[name](tmp_path)
    path = data / TASKS[name]().files[0].path
    whole = path.read_bytes()
    last_option = 20  # where the last text of a file without quotes ends cannot be told
    for end in (len(whole) * 2 // 3 + 7, len(whole) - last_option, 1, 0):
        path.write_bytes(whole[:end])
        with pytest.raises(BadData, match=path.name.replace(".", "\\.")):
            load(name, data)


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_file_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    data = WRITERS[name](tmp_path)
    path = data / TASKS[name]().files[0].path
    for content in (b"\xff\xfe\x00", b"[1, 2]", b'{"a": 1}', b'[{"x": 1}]', b"[[1]]", b"null", b"[" * 10**6, b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(BadData):
            load(name, data)


def test_an_edited_example_is_said(tmp_path: Path) -> None:
    """The examples before the questions are known whole, and an edit there would change all numbers unseen."""
    notes = TASKS["mmlu_other"]().load(published.mmlu(tmp_path)).notes
    assert "the file mmlu/dev/virology_dev.csv is not the published one: another edition, edited or re-ordered" in notes


def test_too_many_rows_are_of_another_split(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="1,001 rows, and the published file 1,000: is it another split"):
        load("pubmedqa", published.pubmedqa(tmp_path, 1001))
    published.gsm8k(tmp_path, 1320)
    with pytest.raises(BadData, match="is it another split"):
        load("gsm8k", tmp_path)


def test_a_test_file_that_is_the_file_of_examples_is_refused(tmp_path: Path) -> None:
    published.mmlu(tmp_path)
    shutil.copy(tmp_path / "mmlu/dev/virology_dev.csv", tmp_path / "mmlu/test/virology_test.csv")
    with pytest.raises(BadData, match="the same file: one is of the wrong split"):
        load("mmlu_other", tmp_path)
    published.gsm8k(tmp_path)
    shutil.copy(tmp_path / "gsm8k/train.jsonl", tmp_path / "gsm8k/test.jsonl")
    with pytest.raises(BadData, match="wrong split"):
        load("gsm8k", tmp_path)


def test_gsm8k_in_other_layouts(tmp_path: Path) -> None:
    expected = contents("gsm8k", published.gsm8k(tmp_path))
    test = tmp_path / "gsm8k/test.jsonl"
    packed = test.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(test.read_bytes()))
    test.unlink()
    assert contents("gsm8k", tmp_path) == expected
    packed.write_bytes(packed.read_bytes()[:-10])
    with pytest.raises(BadData, match="cannot be decompressed; is the file truncated"):
        load("gsm8k", tmp_path)
    packed.unlink()
    write_parquet(test.with_suffix(".parquet"), published.gsm8k_rows(12, 600))
    assert contents("gsm8k", tmp_path) == expected
    assert "gsm8k/test.jsonl was read as Parquet" in TASKS["gsm8k"]().load(tmp_path).notes


def test_mmlu_of_the_hub(tmp_path: Path) -> None:
    expected = contents("mmlu_other", published.mmlu(tmp_path / "csv"))
    published.mmlu(tmp_path / "hub")
    for split in ("test", "dev"):
        for path in (tmp_path / f"hub/mmlu/{split}").iterdir():
            subject = path.stem.removesuffix(f"_{split}")
            cells = published.mmlu_cells(subject, *((2,) if split == "test" else (5, 1000)))
            rows = [{"question": row[0], "choices": row[1:5], "answer": "ABCD".index(row[5])} for row in cells]
            write_parquet(path.with_suffix(".parquet"), [row | {"subject": subject} for row in rows])
            path.unlink()
    assert contents("mmlu_other", tmp_path / "hub") == expected


@pytest.mark.parametrize("answer", [4, -1, 1.0, None, True, "A"])
def test_answers_that_are_no_options_are_refused(answer: Any, tmp_path: Path) -> None:
    published.mmlu(tmp_path)
    (tmp_path / "mmlu/test/virology_test.csv").unlink()
    path = tmp_path / "mmlu/test/virology_test.json"
    write(path, [{"question": "q", "choices": ["a", "b", "c", "d"], "answer": each} for each in (0, answer)])
    with pytest.raises(BadData, match="virology_test"):
        load("mmlu_other", tmp_path)


def test_answers_that_are_counted_from_1_are_refused(tmp_path: Path) -> None:
    published.mmlu(tmp_path)
    (tmp_path / "mmlu/test/virology_test.csv").unlink()
    path = tmp_path / "mmlu/test/virology_test.json"
    rows = [{"question": str(i), "choices": ["a", "b", "c", "d"], "answer": 1 + i % 3} for i in range(30)]
    write(path, rows)
    with pytest.raises(BadData, match="are they counted from 1"):
        load("mmlu_other", tmp_path)


def test_medqa_in_the_layout_of_the_harness(tmp_path: Path) -> None:
    expected = contents("medqa", published.medqa(tmp_path))
    rows = [
        {"id": str(i), "sent1": row["question"], "sent2": "", "label": row["answer"]}
        | {f"ending{j}": choice for j, choice in enumerate(row["choices"])}
        for i, row in enumerate(expected)
    ]
    write_jsonl(tmp_path / "medqa/medqa_us_4opt_test.jsonl", rows)
    assert contents("medqa", tmp_path) == expected


def test_medqa_whose_answer_is_not_that_of_its_letter_is_refused(tmp_path: Path) -> None:
    rows = published.medqa_rows(5)
    rows[3]["answer_idx"] = "A" if rows[3]["answer_idx"] != "A" else "B"
    write_jsonl(tmp_path / "medqa/medqa_us_4opt_test.jsonl", rows)
    with pytest.raises(BadData, match="row 4: the text of the answer is not that of its letter"):
        load("medqa", tmp_path)


def test_pubmedqa_of_the_hub_and_its_truth(tmp_path: Path) -> None:
    expected = contents("pubmedqa", published.pubmedqa(tmp_path))
    rows = [
        {
            "pubid": int(name),
            "question": row["QUESTION"],
            "context": {"contexts": row["CONTEXTS"], "labels": ["A", "B"]},
        }
        | {"final_decision": row["final_decision"]}
        for name, row in published.pubmedqa_rows(60).items()
    ]
    write_parquet(tmp_path / "pubmedqa/ori_pqal.parquet", rows)
    (tmp_path / "pubmedqa/ori_pqal.json").unlink()
    assert contents("pubmedqa", tmp_path) == expected
    truth = json.loads((tmp_path / "pubmedqa/test_ground_truth.json").read_text())
    write(tmp_path / "pubmedqa/test_ground_truth.json", truth | {"9000": "no"})
    with pytest.raises(BadData, match="the answer to 9000 is not that of"):
        load("pubmedqa", tmp_path)
    write(tmp_path / "pubmedqa/test_ground_truth.json", truth | {"1": "no"})
    with pytest.raises(BadData, match="lacks question 1"):
        load("pubmedqa", tmp_path)


def test_truthfulqa_of_the_hub(tmp_path: Path) -> None:
    expected = contents("truthfulqa_mc2", published.truthfulqa(tmp_path))
    rows = [
        {"question": row["question"]}
        | {
            name: {"choices": list(row[name]), "labels": list(row[name].values())}
            for name in ("mc1_targets", "mc2_targets")
        }
        for row in published.truthfulqa_rows(40)
    ]
    write_parquet(tmp_path / "truthfulqa/mc_task.parquet", rows)
    (tmp_path / "truthfulqa/mc_task.json").unlink()
    assert contents("truthfulqa_mc2", tmp_path) == expected
    rows[5]["mc1_targets"]["labels"][1] = 1
    write_parquet(tmp_path / "truthfulqa/mc_task.parquet", rows)
    with pytest.raises(BadData, match="row 6 has several true options"):
        load("truthfulqa_mc1", tmp_path)


def test_the_true_option_is_found_wherever_it_stands(tmp_path: Path) -> None:
    rows = published.truthfulqa_rows(3)
    for row in rows:
        row["mc1_targets"] = dict(reversed(row["mc1_targets"].items()))
    expected = [row["choices"][0] for row in contents("truthfulqa_mc1", published.truthfulqa(tmp_path, 3))]
    write(tmp_path / "truthfulqa/mc_task.json", rows)
    assert [row["choices"][0] for row in contents("truthfulqa_mc1", tmp_path)] == expected


def test_crass_options_are_shuffled_the_same_way_each_time(tmp_path: Path) -> None:
    rows = contents("crass", published.crass(tmp_path))
    right = ["It would stay." for _ in rows]
    assert [row["choices"][row["answer"]] for row in rows] == right
    assert {len(row["choices"]) for row in rows} == {3, 4}
    assert all(row["letters"] == list("ABCD"[: len(row["choices"])]) for row in rows)
    places = [row["answer"] for row in rows]
    assert set(places) == {0, 1, 2, 3}
    assert max(places.count(place) for place in range(4)) < len(places) / 2
    assert rows == contents("crass", tmp_path)
    published.crass(tmp_path, 20)
    assert contents("crass", tmp_path) == rows[:20], "an item's order does not depend on the others"
    task = TASKS["crass"]()
    task.load(tmp_path)
    assert task.metrics[0].chance == pytest.approx((1 / 3 + 1 / 4) / 2)


def test_crass_of_big_bench(tmp_path: Path) -> None:
    expected = contents("crass", published.crass(tmp_path, 30))
    (tmp_path / "crass/CRASS_FTM_main_data_set.csv").unlink()
    write(tmp_path / "crass/crass_ai_task.json", published.crass_big_bench(30))
    assert contents("crass", tmp_path) == expected
    found = TASKS["crass"]().load(tmp_path)
    assert found.n_published == 44
    assert any("not all 274" in note for note in found.notes)
    broken = published.crass_big_bench(3)
    broken["examples"][1]["target_scores"]["It would sing."] = 1
    write(tmp_path / "crass/crass_ai_task.json", broken)
    with pytest.raises(BadData, match="example 2 does not have one right option"):
        load("crass", tmp_path)


def test_drop_of_the_hub(tmp_path: Path) -> None:
    expected = contents("drop", published.drop(tmp_path))
    passages = [row["passage"] for row in expected]
    rows = []
    for i, (question, answer, validated) in enumerate(published.DROP_QUESTIONS):
        columns = {key: [each[key] for each in validated] for key in ("number", "date", "spans")}
        row = {"section_id": "s", "query_id": f"q{i}", "passage": passages[i], "question": question}
        rows.append(row | {"answer": answer, "validated_answers": columns})
    write(tmp_path / "drop/drop_dataset_dev.json", rows)
    assert contents("drop", tmp_path) == expected
    assert expected[1]["answers"] == [["the Heron", "Ina Brandt"], ["Heron"], ["3"]]
    assert expected[2]["answers"] == [["1893"]], "equal answers are one"
    spans = [
        {"query_id": "q", "passage": "p", "question": "?", "answers_spans": {"spans": ["a", "b"], "types": ["span"]}}
    ]
    write(tmp_path / "drop/drop_dataset_dev.json", spans)
    assert contents("drop", tmp_path)[0]["answers"] == [["a"], ["b"]]
    rows[1]["answer"], rows[1]["validated_answers"] = published.drop_answer(), {}
    write(tmp_path / "drop/drop_dataset_dev.json", rows)
    with pytest.raises(BadData, match="question 2 has no answer; the answers of tests are hidden"):
        load("drop", tmp_path)


def test_hidden_answers_are_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "gsm8k/test.jsonl", [{"question": "q", "answer": ""}])
    write_jsonl(tmp_path / "gsm8k/train.jsonl", published.gsm8k_rows(6))
    with pytest.raises(BadData, match='row 1 has no number after "####"'):
        load("gsm8k", tmp_path)


def test_examples_of_bbh_that_are_cut_are_refused(tmp_path: Path) -> None:
    published.bbh(tmp_path)
    path = tmp_path / "bbh/cot-prompts/snarks.txt"
    whole = path.read_text()
    for end in (len(whole) - 20, len(whole) // 2, 10):
        path.write_text(whole[:end])
        with pytest.raises(BadData, match="snarks"):
            load("bbh", tmp_path)
