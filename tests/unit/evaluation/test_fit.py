"""Whether a base model or an adapter on it fails is told apart by what is asked, and not by words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.errors import TaskFailed
from fedloom.errors import EvaluationError
from fedloom.evaluation.asking.adapters import check_fit
from fedloom.evaluation.asking.replies import stored
from shared.wire.tasks.leases import FailureKind
from tests.support.counting_model import CountingModel


class Failing(CountingModel):
    """A model that cannot be used."""

    kind = FailureKind.BASE_MODEL

    def ask(self, requests: Sequence[Any]) -> list[Any]:
        raise TaskFailed(self.kind, "it has no adapter, no base and no weights")


class Starved(Failing):
    kind = FailureKind.OUT_OF_MEMORY


def test_an_adapter_that_fails_where_the_base_replies_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"^mine, on tiny: it has no adapter"):
        check_fit(stored([CountingModel(), Failing("mine", "a" * 64)], tmp_path))


def test_a_base_that_fails_is_no_fault_of_the_adapter(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed):
        check_fit(stored([Failing(), CountingModel("mine", "a" * 64)], tmp_path))
    with pytest.raises(TaskFailed):
        check_fit(stored([CountingModel(), Starved("mine", "a" * 64)], tmp_path))


def test_a_base_alone_is_asked_nothing(tmp_path: Path) -> None:
    base = CountingModel()
    check_fit(stored([base], tmp_path))
    assert base.asked == []
