"""Financial sentiment and AdvBench on the published files and their slices."""

import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from fedloom.evaluation.data.overlap import overlap
from fedloom.evaluation.data.sampling import draw
from fedloom.evaluation.statistics.numbers import numbers_of
from fedloom.evaluation.tasks.base import BadData
from fedloom.evaluation.tasks.finance.corpora import LABELS
from fedloom.evaluation.tasks.registry import TASKS
from shared.digest import sha256_hex
from tests.real.conftest import SHARED, finance_rows
from tests.real.evaluation.conftest import SLICES
from tests.support.stand_in_models import uniform


def labels_of(name: str, data: Path) -> Counter[str]:
    return Counter(item.content["label"] for item in TASKS[name]().load(data).items)


def test_the_draw_of_fpb_is_the_published_test(phrase_bank: Path) -> None:
    found = TASKS["fpb"]().load(phrase_bank)
    assert (len(found.items), found.n_published, list(found.notes)) == (1212, 1212, [])
    digest = sha256_hex("\n".join(item.content["text"] for item in found.items).encode())
    assert digest.startswith("78a4e0d978ca3e79")
    assert labels_of("fpb", phrase_bank) == {"neutral": 729, "positive": 338, "negative": 145}


def test_the_draw_of_fpb_is_that_of_hugging_face_datasets(phrase_bank: Path) -> None:
    from datasets import Dataset

    text = (phrase_bank / "fpb/Sentences_50Agree.txt").read_bytes().decode("iso-8859-1")
    sentences = [line.rpartition("@")[0] for line in text.split("\n") if line]
    split = Dataset.from_dict({"sentence": sentences}).train_test_split(seed=42)
    found = TASKS["fpb"]().load(phrase_bank)
    assert [item.content["text"] for item in found.items] == split["test"]["sentence"][:]


def test_fpb_with_two_lines_exchanged_is_refused_and_as_utf8_it_is_the_same(tmp_path: Path, phrase_bank: Path) -> None:
    raw = (phrase_bank / "fpb/Sentences_50Agree.txt").read_bytes()
    (tmp_path / "fpb").mkdir()
    copy = tmp_path / "fpb/Sentences_50Agree.txt"
    copy.write_text(raw.decode("iso-8859-1"))
    assert TASKS["fpb"]().load(tmp_path).items == TASKS["fpb"]().load(phrase_bank).items
    lines = raw.split(b"\n")
    copy.write_bytes(b"\n".join([*lines[:2000:-1], *lines[:2001]]))
    with pytest.raises(BadData, match="other ones or another order"):
        TASKS["fpb"]().load(tmp_path)


def test_a_truncated_fpb_is_called_a_slice_or_refused(tmp_path: Path, phrase_bank: Path) -> None:
    lines = (phrase_bank / "fpb/Sentences_50Agree.txt").read_bytes().split(b"\n")
    (tmp_path / "fpb").mkdir()
    copy = tmp_path / "fpb/Sentences_50Agree.txt"
    copy.write_bytes(b"\n".join(lines[:2264]))
    assert "2,264 of 4,846 rows" in TASKS["fpb"]().load(tmp_path).notes[0]
    copy.write_bytes(b"\n".join(lines[:2264])[:-5])
    with pytest.raises(BadData, match="line 2264"):
        TASKS["fpb"]().load(tmp_path)


@pytest.mark.parametrize(("name", "n_items", "n_published"), [("tfns", 199, 2388), ("fiqa_labelled", 79, 235)])
def test_slices_are_read_and_called_slices(name: str, n_items: int, n_published: int) -> None:
    found = TASKS[name]().load(SLICES)
    assert (len(found.items), found.n_published) == (n_items, n_published)
    assert f"a slice: {n_items} of {n_published:,} items" in found.notes
    assert set(labels_of(name, SLICES)) == set(LABELS)


def test_both_layouts_of_the_labelled_fiqa_have_the_same_texts_and_labels(tmp_path: Path) -> None:
    (tmp_path / "fiqa_sa").symlink_to(SLICES / "fiqa_sa")
    both = [
        {(item.content["text"].strip(), item.content["label"]) for item in TASKS["fiqa_labelled"]().load(data).items}
        for data in (tmp_path, SLICES)
    ]
    assert both[0] == both[1]
    assert len(both[0]) == 79


def test_trap_tfns_comes_in_runs_and_the_draw_does_not() -> None:
    items = TASKS["tfns"]().load(SLICES).items
    labels = [item.content["label"] for item in items]
    assert sum(one == other for one, other in pairwise(labels)) > 0.75 * len(labels)
    assert {item.content["label"] for item in draw(items, 30, seed=0)} == set(LABELS)


def test_trap_the_training_split_of_tfns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tfns").mkdir()
    shutil.copy(SHARED / "data/finance/tfns/sent_train.csv", tmp_path / "tfns/sent_valid.csv")
    with pytest.raises(BadData, match="has 9,543 rows, and the published file 2,388"):
        TASKS["tfns"]().load(tmp_path)


def test_a_uniform_model_is_at_chance_on_fpb(phrase_bank: Path) -> None:
    for name, words in [("fpb", LABELS), ("fpb_likelihood", ())]:
        task = TASKS[name]()
        loaded = task.load(phrase_bank)
        numbers = {each.metric.name: each for each in numbers_of(task, task.run(loaded.items, uniform(words)), 1212)}
        accuracy = numbers["acc"].value
        assert accuracy is not None
        assert abs(accuracy - 1 / 3) < 3 * (2 / 9 / 1212) ** 0.5


def test_advbench_is_read() -> None:
    found = TASKS["advbench"]().load(SLICES)
    assert (len(found.items), found.n_published) == (100, 520)


def test_training_rows_with_all_of_the_phrase_bank_are_warned_of(phrase_bank: Path) -> None:
    items = TASKS["fpb"]().load(phrase_bank).items
    training = [f"{row['prompt']}\n{row['completion']}" for row in finance_rows()]
    found = overlap(items, training)
    agreed = (phrase_bank / "fpb/Sentences_AllAgree.txt").read_bytes().decode("iso-8859-1").split("\n")
    among = {line.rpartition("@")[0] for line in agreed if line}
    assert found.n_exact >= sum(
        item.content["text"] in among for item in items if len(item.content["text"].split()) > 8
    )
    assert 0 < len(found.occurrences) < len(items)
    assert overlap(items, [item.content["text"] for item in TASKS["tfns"]().load(SLICES).items]).occurrences == []
