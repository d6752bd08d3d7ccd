"""Benchmarks as agents run them, with a real child and the tiny model."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent.benchmarks.interface import Asked, BenchmarksStopped, Listening
from agent.errors import TaskFailed
from agent.local import LocalChild
from agent.orders.on_base.model import LoraFile
from fedloom.evaluation.asking.child_model import ChildModel
from fedloom.evaluation.asking.warm_base import WarmBase
from fedloom.evaluation.campaigns.public_benchmarks import PublicBenchmarks
from fedloom.evaluation.evaluate import planned
from fedloom.evaluation.running.run import run
from fedloom.evaluation.sandbox.isolation import NoIsolation
from fedloom.evaluation.tasks.registry import find_task
from shared.wire.benchmarks import BenchmarkScore, OfferedBenchmark
from shared.wire.tasks.leases import FailureKind
from tests.support.published import code, finance, own
from tests.support.stand_in_models import StandIn
from tests.train.conftest import LORA, Lab

pytestmark = pytest.mark.train
QUIET = Listening(lambda _done, _total: None, lambda _: None, lambda: None)


def asked(data: Path, *names: str, limit: int | None = None, seed: int = 0) -> Asked:
    return Asked(names, data, limit, seed)


def offers(what: Asked, benchmarks: PublicBenchmarks | None = None) -> dict[str, OfferedBenchmark]:
    found = (benchmarks or PublicBenchmarks()).available(what)
    assert not found.reasons
    return {each.name: each for each in found.offered}


def run_on(
    what: Asked, offered: Mapping[str, OfferedBenchmark], child: LocalChild, adapter: LoraFile, folder: Path
) -> list[BenchmarkScore]:
    return [*PublicBenchmarks().run(what, offered, child, adapter, folder, QUIET)]


def with_template(model: Path, folder: Path, template: str | None) -> Path:
    """A copy of a model whose tokenizer has this chat template, or none."""
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = folder / "tokenizer_config.json"
    facts = json.loads(config.read_text())
    facts.pop("chat_template", None)
    config.write_text(json.dumps(facts | ({"chat_template": template} if template is not None else {})))
    return folder


def test_the_numbers_are_those_of_an_evaluation(lab: Lab, new_child: Callable[..., LocalChild], tmp_path: Path) -> None:
    data = tmp_path / "data"
    finance.fpb(data, n=40, sentence="Profits of {} rose .@positive")
    what = asked(data, "fpb", "fpb_likelihood", limit=3, seed=2)
    adapter = LoraFile(weights=lab.adapter_0(), lora=LORA)
    child = new_child()
    behind: list[tuple[int, int]] = []
    listening = Listening(lambda done, total: behind.append((done, total)), lambda _: None, lambda: None)
    scores = PublicBenchmarks().run(what, offers(what), child, adapter, tmp_path / "task", listening)
    assert behind == sorted(behind)
    assert (behind[0], behind[-1]) == ((0, 6), (6, 6))
    plan = planned(None, list(what.names), data=data, limit=3, seed=2)
    results = run(plan, [ChildModel(WarmBase(child), "own", adapter)], tmp_path / "evaluation")
    for score, task in zip(scores, results.tasks, strict=True):
        numbers = {f"{task.name}.{each.metric.name}": each.value for each in task.models[0].numbers}
        assert score.values == numbers
        assert (score.n, score.n_asked) == (3, 3)


def test_editions_limits_seeds_and_metrics_have_digests_of_their_own(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    finance.fpb(one, n=40)
    finance.fpb(other, n=40, sentence="Another {} .@neutral")
    digests = [
        offers(what)[what.names[0]].items_sha256
        for what in (
            asked(one, "fpb"),
            asked(other, "fpb"),
            asked(one, "fpb", limit=3),
            asked(one, "fpb", limit=3, seed=1),
            asked(one, "fpb_likelihood"),
        )
    ]
    assert len(set(digests)) == len(digests)
    copy = tmp_path / "copy" / "elsewhere"
    finance.fpb(copy, n=40)
    assert offers(asked(copy, "fpb"))["fpb"].items_sha256 == digests[0]


def test_files_are_read_again_only_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedloom.evaluation.campaigns import public_benchmarks

    made: list[str] = []
    really = public_benchmarks.made_ready
    monkeypatch.setattr(public_benchmarks, "made_ready", lambda what, name: made.append(name) or really(what, name))
    benchmarks, what = PublicBenchmarks(), asked(tmp_path, "tfns", "fpb")
    assert set(benchmarks.available(what).reasons) == {"tfns", "fpb"}
    finance.fpb(tmp_path)
    first = benchmarks.available(what)
    assert benchmarks.available(what) == first
    assert made == ["tfns", "fpb"] * 2
    path = tmp_path / finance.FPB
    path.write_text(path.read_text().replace("neutral", "positive"))
    os.utime(path, ns=(1, 1))
    [changed] = benchmarks.available(what).offered
    assert changed.items_sha256 != first.offered[0].items_sha256


def test_a_damaged_file_is_a_reason_and_no_error(tmp_path: Path) -> None:
    path = finance.tfns(tmp_path) / "tfns" / "sent_valid.csv"
    path.write_bytes(b"\xff\x00" * 40)
    finance.fpb(tmp_path)
    found = PublicBenchmarks().available(asked(tmp_path, "tfns", "fpb"))
    assert [each.name for each in found.offered] == ["fpb"]
    assert found.reasons["tfns"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [(None, "has no chat template"), ("{{ raise_exception('only one role') }}", "the chat template")],
)
def test_a_task_that_speaks_to_a_chat_model_gives_no_number_without_a_template_that_takes_it(
    lab: Lab, new_child: Callable[..., LocalChild], tmp_path: Path, template: str | None, reason: str
) -> None:
    data = own.advbench(tmp_path / "data")
    finance.fpb(data, n=8)
    what = asked(data, "advbench_chat", "fpb_likelihood")
    child = new_child(with_template(lab.model, tmp_path / "plain", template))
    chat, plain = run_on(what, offers(what), child, LoraFile(weights=lab.adapter_0(), lora=LORA), tmp_path / "task")
    assert reason in chat.not_run
    assert chat.values == {}
    assert plain.values


def test_an_adapter_of_another_shape_fails_the_task(
    lab: Lab, new_child: Callable[..., LocalChild], tmp_path: Path
) -> None:
    data = finance.fpb(tmp_path / "data")
    what = asked(data, "fpb_likelihood")
    adapter = LoraFile(weights=lab.adapter_0(), lora=LORA)
    wrong = adapter.model_copy(update={"lora": adapter.lora.model_copy(update={"rank": 7})})
    with pytest.raises(TaskFailed) as caught:
        run_on(what, offers(what), new_child(), wrong, tmp_path / "task")
    assert caught.value.failure.kind is FailureKind.BASE_MODEL


def test_programs_run_in_the_sandbox_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what = asked(code.humaneval(tmp_path), "humaneval")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = PublicBenchmarks().available(what)
    assert found.offered == []
    assert "bubblewrap" in found.reasons["humaneval"]


def test_a_run_that_is_not_wanted_ends_after_the_next_program(tmp_path: Path) -> None:
    task = find_task("humaneval")
    items = task.load(code.humaneval(tmp_path)).items
    try:
        task.check()
    except NoIsolation as error:
        pytest.skip(str(error))

    def unwanted() -> None:
        raise BenchmarksStopped

    task.on_program = unwanted
    with pytest.raises(BenchmarksStopped):
        task.run(items, StandIn(lambda _: "    return 1\n"))
