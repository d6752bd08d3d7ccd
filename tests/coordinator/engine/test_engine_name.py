"""Engines that run one after another on one data folder share a name."""

from pathlib import Path

import pytest

from coordinator.engine.identity import engine_name


def test_successors_share_a_name_and_companions_do_not(tmp_path: Path) -> None:
    with engine_name(tmp_path) as (first, first_is_alone), engine_name(tmp_path) as (second, second_is_alone):
        assert (first_is_alone, second_is_alone) == (True, False)
        assert first != second
        assert len(first) == len(second) == 8
    with engine_name(tmp_path) as (successor, is_alone):
        assert (successor, is_alone) == (first, True)


@pytest.mark.parametrize("content", ["", "\n"])
def test_a_missing_engine_name_is_created(tmp_path: Path, content: str) -> None:
    (tmp_path / "engine").write_text(content)
    with engine_name(tmp_path) as (name, is_alone):
        assert (len(name), is_alone) == (8, True)
    assert (tmp_path / "engine").read_text() == name
