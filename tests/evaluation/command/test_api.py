"""``fedloom.evaluate`` over the tiny model and a real adapter."""

from pathlib import Path

import pytest

import fedloom
from fedloom.errors import EvaluationError
from fedloom.evaluation.running.plan import Progress
from shared.wire.tasks.leases import Phase
from tests.evaluation.command.conftest import replies_in
from tests.support.results import read_results

pytestmark = pytest.mark.train


@pytest.mark.deep
def test_results_are_typed_and_those_of_the_file(
    base: Path, adapter: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told: list[Progress] = []
    out = tmp_path / "out"
    results = fedloom.evaluate(
        [adapter], tasks=["rows"], limit=6, data=data, out=out, threads=1, on_progress=told.append
    )
    assert results == read_results(out)
    assert results.is_complete
    assert [model.name for model in results.models] == ["base", "notes"]
    [task] = results.tasks
    one, two = task.models
    assert (one.numbers[0].metric.name, one.numbers[0].n, one.numbers[0].n_published) == ("exact", 6, 48)
    assert two.differences[1].value == pytest.approx((two.numbers[1].value or 0) - (one.numbers[1].value or 0))
    assert max(each.items_done for each in told) == 12
    waits = [each.waits_for.phase for each in told if each.waits_for is not None]
    assert waits == [Phase.IMPORTING, Phase.READING_MODEL, Phase.LOADING_MODEL]
    before = replies_in(out)
    assert len(before) == 6 + 6 + 2, "and one word of each"

    again = fedloom.evaluate([adapter], tasks=["rows"], limit=6, data=data, out=out, threads=1)
    assert again.tasks[0].models[1].numbers == two.numbers
    assert replies_in(out) == before, "nothing is asked twice"

    larger = fedloom.evaluate(base=str(base), tasks=["rows"], limit=8, data=data, out=out, threads=1)
    assert larger == read_results(out)
    assert [model.name for model in larger.models] == ["base"]
    assert len(replies_in(out)) == len(before) + 2, "another plan in the same folder asks what is new"
    assert [str(path.relative_to(out / "items")) for path in out.glob("items/*/*")] == ["rows/base.jsonl"]


def test_a_suite_and_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="give a suite or tasks, and not both"):
        fedloom.evaluate(base="x", suite="paper", tasks=["rows"], out=tmp_path)
    with pytest.raises(EvaluationError, match="name an adapter's folder, or a base model"):
        fedloom.evaluate(tasks=["rows"], out=tmp_path)
