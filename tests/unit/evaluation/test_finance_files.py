"""The corpora of financial sentiment: files that were made up in the published formats."""

from collections import Counter
from pathlib import Path

import pytest

from fedloom.evaluation.tasks.base import BadData, DataMissing, Items
from fedloom.evaluation.tasks.finance.fiqa import label_of
from fedloom.evaluation.tasks.finance.held_out import held_out
from fedloom.evaluation.tasks.registry import TASKS
from tests.support.published import finance
from tests.support.published.files import write_csv, write_jsonl, write_lines, write_parquet
from tests.support.published.finance import FPB, SEVEN, SPLITS, fiqa_rows, nwgi_rows, prompted


def load(name: str, data: Path) -> Items:
    return TASKS[name]().load(data)


def triples(items: Items) -> list[tuple[str, str, str]]:
    return [(item.content["text"], item.content["kind"], item.content["label"]) for item in items.items]


@pytest.mark.parametrize(
    ("n_rows", "share", "seed"), [(4846, 0.25, 42), (1213, 0.226, 42), (10, 0.25, 0), (97, 0.5, 7)]
)
def test_the_held_out_rows_are_those_of_hugging_face_datasets(n_rows: int, share: float, seed: int) -> None:
    from datasets import Dataset

    whole = Dataset.from_dict({"row": list(range(n_rows))})
    test = (
        whole.train_test_split(share, seed=seed)["test"] if share != 0.25 else whole.train_test_split(seed=seed)["test"]
    )
    assert held_out(n_rows, share, seed) == test["row"][:]


def test_the_tests_of_fpb_and_fiqa_have_the_published_sizes() -> None:
    assert (len(held_out(4846, 0.25, 42)), len(held_out(1213, 0.226, 42))) == (1212, 275)


@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-8"])
def test_fpb_is_split_at_the_last_at_sign_in_either_encoding(tmp_path: Path, encoding: str) -> None:
    lines = [f"Sääksjärvi @ {n} €".replace("€", "") + "@positive" for n in range(8)]
    write_lines(tmp_path / FPB, lines, encoding)
    found = load("fpb", tmp_path)
    assert len(found.items) == 2
    assert all(item.content["text"].startswith("Sääksjärvi @ ") for item in found.items)
    assert {item.content["label"] for item in found.items} == {"positive"}
    assert [int(item.id) for item in found.items] == held_out(8, 0.25, 42)


def test_trap_a_part_of_fpb_is_called_one_because_its_draw_is_another(tmp_path: Path) -> None:
    finance.fpb(tmp_path, 4217)
    found = load("fpb", tmp_path)
    assert (len(found.items), found.n_published) == (1055, 1212)
    assert "drawn from 4,217 of 4,846 rows, so these are not the published test's" in found.notes[0]


def test_trap_an_fpb_that_was_edited_or_reordered_is_refused(tmp_path: Path) -> None:
    finance.fpb(tmp_path, 4846)
    with pytest.raises(BadData, match="the published number of rows, but other ones or another order"):
        load("fpb", tmp_path)
    finance.fpb(tmp_path, 4847)
    with pytest.raises(BadData, match="has 4,847 rows, and the published file 4,846"):
        load("fpb", tmp_path)


def test_a_truncated_fpb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fpb").mkdir()
    (tmp_path / FPB).write_bytes(b"One .@neutral\nTwo is cut")
    with pytest.raises(BadData, match="line 2 has no @ before a label; is the file truncated"):
        load("fpb", tmp_path)
    (tmp_path / FPB).write_bytes(b"One .@neutral\nTwo .@neut")
    with pytest.raises(BadData, match="line 2: the label is none of negative, neutral, positive"):
        load("fpb", tmp_path)
    (tmp_path / FPB).write_bytes(b"")
    with pytest.raises(BadData, match="has no rows"):
        load("fpb", tmp_path)


def test_fiqas_scores_become_labels() -> None:
    scores = {-1: "negative", -0.101: "negative", -0.1: "neutral", 0: "neutral", 0.099: "neutral", 0.1: "positive"}
    assert {score: label_of(score) for score in scores} == scores


def test_fiqas_three_files_are_joined_before_the_draw(tmp_path: Path) -> None:
    finance.fiqa(tmp_path, (961, 102, 150))
    found = load("fiqa", tmp_path)
    joined = [f"{split} {i}" for split, n in zip(SPLITS, (961, 102, 150), strict=True) for i in range(n)]
    assert [text for text, _, _ in triples(found)] == [joined[place] for place in held_out(1213, 0.226, 42)]
    assert (len(found.items), found.n_published, list(found.notes)) == (275, 275, [])
    assert len(found.digests) == 3
    for item in found.items:
        assert item.content["kind"] == {"post": "tweet", "headline": "news"}[item.group]


def test_fiqa_says_which_split_is_missing_and_which_rows_are_bad(tmp_path: Path) -> None:
    write_csv(tmp_path / "fiqa_scores/train.csv", fiqa_rows(4, "a"))
    said = r"put fiqa_scores/validation.csv into .*: the split validation .*\(or .* as .json, .jsonl or .parquet\)"
    with pytest.raises(DataMissing, match=said):
        load("fiqa", tmp_path)
    finance.fiqa(tmp_path)
    assert list(load("fiqa", tmp_path).notes) == [
        "drawn from 12 of 1,213 rows, so these are not the published test's, and may be among its training rows",
        "a slice: 3 of 275 items",
    ]
    for column, value, message in [
        ("sentiment_score", "nan", "sentiment_score is no number from -1 to 1"),
        ("sentiment_score", "1.5", "sentiment_score is no number from -1 to 1"),
        ("sentiment_score", "", "sentiment_score is no number from -1 to 1"),
        ("format", "tweet", "the format is neither post nor headline"),
    ]:
        write_csv(tmp_path / "fiqa_scores/test.csv", [{**row, column: value} for row in fiqa_rows(4, "test")])
        with pytest.raises(BadData, match=f"fiqa_scores/test.csv: row .*: {message}"):
            load("fiqa", tmp_path)


def test_the_labelled_fiqa_reads_two_columns_only(tmp_path: Path) -> None:
    finance.fiqa_labelled(tmp_path)
    found = load("fiqa_labelled", tmp_path)
    assert triples(found) == [(f"s {n}", "news", "negative") for n in range(3)]
    assert "othermodel" not in found.items[0].content
    assert found.n_published == 235
    assert found.notes[-1] == "a slice: 3 of 235 items"


def test_trap_ten_prompts_to_a_text_are_one_item(tmp_path: Path) -> None:
    rows = [*prompted("a", "Negative", "post"), *prompted("b", "Neutral", "headline")]
    path = write_jsonl(tmp_path / "fiqa_sa/test.jsonl", rows)
    found = load("fiqa_labelled", tmp_path)
    assert triples(found) == [("a", "tweet", "negative"), ("b", "news", "neutral")]
    assert (found.n_published, found.notes[-1]) == (235, "a slice: 2 of 235 items")
    for broken, message in [
        ({"label": "Positive"}, "row 21: the text has another label than in an earlier row"),
        ({"conversations": []}, "row 21: conversations holds no prompt"),
        ({"conversations": [{"value": "What is it?"}]}, "row 21: the prompt speaks of neither a post nor a headline"),
    ]:
        write_jsonl(path, [*rows, {**rows[0], **broken}])
        with pytest.raises(BadData, match=message):
            load("fiqa_labelled", tmp_path)


def test_trap_the_numbers_of_tfns_are_not_those_of_fpb(tmp_path: Path) -> None:
    finance.tfns(tmp_path, 3)
    assert triples(load("tfns", tmp_path)) == [
        ("0", "tweet", "negative"),
        ("1", "tweet", "positive"),
        ("2", "tweet", "neutral"),
    ]


def test_trap_texts_called_none_are_texts(tmp_path: Path) -> None:
    words = ["None", "NA", "nan", "null", ""]
    write_csv(tmp_path / "tfns/sent_valid.csv", [{"text": word, "label": 2} for word in words])
    assert [text for text, _, _ in triples(load("tfns", tmp_path))] == words


def test_trap_the_training_split_of_tfns_is_refused(tmp_path: Path) -> None:
    finance.tfns(tmp_path, 9543)
    with pytest.raises(BadData, match="has 9,543 rows, and the published file 2,388: is it another split"):
        load("tfns", tmp_path)


def test_tfns_with_other_labels_or_cells_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "tfns/sent_valid.csv", [{"text": "x", "label": 1}, {"text": "x", "label": 3}])
    with pytest.raises(BadData, match="row 2: the label is none of 0, 1, 2"):
        load("tfns", tmp_path)
    path.write_text("text,label\nx,1\na, b,1\n")
    with pytest.raises(BadData, match="row 2 does not have 2 cells, as the first line has"):
        load("tfns", tmp_path)
    path.write_text('text,label\nx,1\n"cut off')
    with pytest.raises(BadData, match="is the file truncated"):
        load("tfns", tmp_path)
    path.write_text("text,label\nx,1\nx\n")
    with pytest.raises(BadData, match="row 2 does not have 2 cells, as the first line has"):
        load("tfns", tmp_path)
    path.write_bytes(b"text,label\n\xff,1\n")
    with pytest.raises(BadData, match="is not UTF-8"):
        load("tfns", tmp_path)


@pytest.mark.parametrize("write", [write_parquet, write_jsonl, write_csv])
def test_nwgis_seven_labels_become_three_in_each_layout(tmp_path: Path, write: object) -> None:
    suffix = {write_parquet: "parquet", write_jsonl: "jsonl", write_csv: "csv"}[write]  # type: ignore[index]
    write(tmp_path / f"nwgi/test.{suffix}", nwgi_rows())  # type: ignore[operator]
    found = load("nwgi", tmp_path)
    assert triples(found) == [(f"n {i}", "news", label) for i, label in enumerate(SEVEN.values())]
    assert Counter(label for _, _, label in triples(found)) == {"negative": 2, "neutral": 3, "positive": 2}
    assert found.n_published == 4048
    assert list(found.digests) == [f"nwgi/test.{suffix}"]


def test_a_broken_nwgi_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "nwgi/test.parquet", nwgi_rows())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadData, match="cannot be read as Parquet"):
        load("nwgi", tmp_path)
    write_parquet(path, [{"news": "x", "label": "bullish"}])
    with pytest.raises(BadData, match="row 1: the label is none of strong negative"):
        load("nwgi", tmp_path)
    path.unlink()
    (tmp_path / "nwgi/test.jsonl").write_text('{"news": "x", "label": "neutral"}\n{"news": "x", "la')
    with pytest.raises(BadData, match="line 2 is not JSON; is the file truncated"):
        load("nwgi", tmp_path)


@pytest.mark.parametrize("name", ["fpb", "fiqa", "fiqa_labelled", "tfns", "nwgi", "advbench", "rows"])
def test_trap_a_missing_file_is_said_with_where_to_get_it(tmp_path: Path, name: str) -> None:
    task = TASKS[name]()
    with pytest.raises(DataMissing) as caught:
        task.load(tmp_path)
    assert str(caught.value).startswith(f"put {task.files[0].path}")
    assert task.files[0].where in str(caught.value)
