"""Values beyond what a table, a plot or a number can show."""

import math
from pathlib import Path

import pytest

from fedloom.evaluation.asking.requests import Scored
from fedloom.evaluation.evaluate import planned
from fedloom.evaluation.report.plot import axis_of, plot
from fedloom.evaluation.results import RESULTS_FILE
from fedloom.evaluation.running.run import run
from fedloom.evaluation.words import value_in_words
from tests.support.counting_model import CountingModel


class Surprised(CountingModel):
    """A model that finds each text very unlikely. log_prob: of a text, in nats."""

    def __init__(self, log_prob: float) -> None:
        super().__init__()
        self._log_prob = log_prob

    def _reply(self, request: object) -> Scored:
        return Scored(self._log_prob, 4)


def evaluated(folder: Path, log_prob: float) -> tuple[object, str]:
    (folder / "data/perplexity").mkdir(parents=True)
    (folder / "data/perplexity/texts.txt").write_text("他今天好多了\n")
    [task] = run(planned(None, ["perplexity"], data=folder / "data"), [Surprised(log_prob)], folder / "out").tasks
    return task, (folder / "out/report.html").read_text()


@pytest.mark.parametrize("log_prob", [-30.0, -60.0, -600.0])
def test_a_huge_perplexity_has_a_page_and_few_digits(tmp_path: Path, log_prob: float) -> None:
    task, page = evaluated(tmp_path, log_prob)
    number = task.models[0].numbers[0]  # type: ignore[attr-defined]
    assert number.value == pytest.approx(math.exp(-log_prob / 2), rel=0.5) or number.value > 1e6
    assert len(value_in_words(number)) < 12
    assert "nan" not in page
    axis = axis_of([number])
    assert axis is not None
    assert axis.low < number.value < axis.high
    assert "nan" not in plot(number, axis)


def test_a_value_beyond_all_numbers_is_none_and_says_so(tmp_path: Path) -> None:
    task, page = evaluated(tmp_path, -5000.0)
    by_name = {number.metric.name: number for number in task.models[0].numbers}  # type: ignore[attr-defined]
    assert by_name["word_perplexity"].value is None
    assert by_name["word_perplexity"].not_run == "its value is beyond all numbers"
    assert by_name["bits_per_byte"].value == pytest.approx(5000 / math.log(2) / 19)
    assert "its value is beyond all numbers" in page
    assert "nan" not in page
    assert "NaN" not in (tmp_path / "out" / RESULTS_FILE).read_text()
