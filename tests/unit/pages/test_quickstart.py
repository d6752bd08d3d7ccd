"""The quickstart is honest: the questions of its exam were never trained on."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

QUICKSTART = Path(__file__).resolve().parents[3] / "examples" / "quickstart"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(QUICKSTART))
    import world

    yield world
    for name in ("world", "make_data"):
        sys.modules.pop(name, None)


def test_no_phrasing_of_the_exam_is_in_training_or_validation(world: Any) -> None:
    for kind in world.KINDS:
        for attribute in kind.attributes.values():
            train, validation, test = (set(attribute.questions[split]) for split in world.Split)
            assert train
            assert validation
            assert test
            assert not train & validation
            assert not (train | validation) & test
            assert all("{name}" in phrasing for phrasing in train | validation | test)


def test_the_base_model_and_the_owners_share_no_names(world: Any) -> None:
    for kind in world.KINDS:
        owners, encyclopedia = (set(world.names(kind, of_owners=of_owners)) for of_owners in (True, False))
        assert not owners & encyclopedia
        assert len(owners | encyclopedia) == len(kind.first) * len(kind.second)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_row_of_the_exam_is_trained_on_and_each_owner_holds_facts_of_its_own(
    world: Any, tmp_path: Path, seed: int
) -> None:
    import make_data

    make_data.make_data(tmp_path, seed)
    rows = {split: make_data.read_rows(tmp_path / name) for split, name in make_data.FILES.items()}
    prompts = {split: {row["prompt"] for row in split_rows} for split, split_rows in rows.items()}
    assert not prompts[world.Split.TRAIN] & (prompts[world.Split.TEST] | prompts[world.Split.VALIDATION])
    assert not prompts[world.Split.TEST] & prompts[world.Split.VALIDATION]
    answers = {
        owner: {r["completion"] for r in rows[world.Split.TRAIN] if r["owner"] == owner} for owner in world.OWNERS
    }
    assert sum(map(len, answers.values())) == len(set.union(*answers.values())), "each fact has one owner"
    assert {row["completion"] for row in rows[world.Split.TEST]} == set.union(*answers.values()), (
        "the exam asks for every fact"
    )


def test_the_base_model_is_small_and_has_no_weights_but_its_own() -> None:
    files = list((QUICKSTART / "model").iterdir())
    assert sum(path.stat().st_size for path in files) < 5_000_000
    config = json.loads((QUICKSTART / "model" / "config.json").read_text())
    assert config["model_type"] == "llama"
