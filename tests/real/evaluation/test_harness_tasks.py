"""The tasks on slices of the published sets."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from agent.configuration.settings import ComputeSettings
from agent.local import LocalChild
from fedloom.evaluation.asking.child_model import ChildModel
from fedloom.evaluation.asking.requests import Likelihood
from fedloom.evaluation.asking.warm_base import WarmBase
from fedloom.evaluation.harness.task import HarnessTask
from fedloom.evaluation.tasks.base import Item, Outcome
from fedloom.evaluation.tasks.registry import TASKS
from shared.campaign.spec import BaseSection
from tests.real.conftest import SHARED
from tests.support.stand_in_models import StandIn, uniform

pytest.importorskip("lm_eval")

from tests.evaluation.directly import TASKS as OF_HARNESS
from tests.evaluation.directly import evaluate
from tests.evaluation.harness_lm import hflm

N_ITEMS = {
    "mmlu": 171,
    "bbh": 189,
    "bbh_direct": 189,
    "drop": 178,
    "drop_0shot": 178,
    "crass": 15,
    "medqa": 200,
    "medmcqa": 200,
    "pubmedqa": 167,
    "gsm8k": 200,
    "truthfulqa_mc1": 200,
    "truthfulqa_mc2": 200,
}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The slices, where the tasks look for the files."""
    folder = tmp_path_factory.mktemp("evaluation")
    shutil.copytree(SHARED / "data/eval", folder, dirs_exist_ok=True)
    shutil.copy(SHARED / "data/math/gsm8k_train.jsonl", folder / "gsm8k/train.jsonl")
    shutil.copy(folder / "drop/drop_contrast_sets_test.json", folder / "drop/drop_dataset_dev.json")
    return folder


def loaded(name: str, data: Path) -> tuple[HarnessTask, list[Item]]:
    task = TASKS[name]()
    assert isinstance(task, HarnessTask)
    return task, list(task.load(data).items)


@pytest.mark.parametrize("name", list(N_ITEMS))
def test_each_slice_is_read_and_asked(name: str, data: Path) -> None:
    task, items = loaded(name, data)
    assert len(items) == N_ITEMS[name]
    outcomes = task.run(items, uniform(["So the answer is (A).", "#### 18"]))
    assert not [outcome.problem for outcome in outcomes if outcome.problem]
    assert not [note for note in task.load(data).notes if "not the published file" in note], "the examples are whole"
    (metric, *_) = task.metrics
    if metric.chance is not None:
        share = fmean(outcome.values[metric.name] for outcome in outcomes)
        assert abs(share - metric.chance) < 3 * (metric.chance * (1 - metric.chance) / len(items)) ** 0.5


def test_the_examples_of_bbh_are_those_of_the_harness(data: Path) -> None:
    for name, folder in (("bbh", "cot_fewshot"), ("bbh_direct", "fewshot")):
        task, items = loaded(name, data)
        for part, examples in task.examples.items():
            theirs = yaml.safe_load((OF_HARNESS / "bbh" / folder / f"{part}.yaml").read_text())
            pairs = [(each["input"], str(each["target"])) for each in theirs["fewshot_config"]["samples"]]
            assert [(each["input"], each["target"]) for each in examples] == pairs
            description = next(item.content["description"] for item in items if item.group == part)
            assert theirs["description"] == f"{description}\n\n"


def test_the_other_layout_of_drop_is_read(data: Path, tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    shutil.copy(data / "drop/drop_fixture.json", tmp_path / "drop/drop_dataset_dev.json")
    assert len(loaded("drop", tmp_path)[1]) == 19


@pytest.fixture(scope="module")
def model(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    compute = ComputeSettings(device="cpu", threads=1)
    with LocalChild(
        BaseSection(model="smollm2"), smollm2, compute=compute, folder=tmp_path_factory.mktemp("child")
    ) as child:
        yield ChildModel(WarmBase(child))


def score(task: HarnessTask, items: Sequence[Item], model: Any, metric: str) -> tuple[float, list[Outcome]]:
    outcomes = task.run(items, model)
    return fmean(outcome.values[metric] for outcome in outcomes), outcomes


def test_real_questions_to_a_real_model_give_what_the_harness_gives(smollm2: Path, model: Any, data: Path) -> None:
    lm = hflm(smollm2)
    task, items = loaded("medmcqa", data)
    items = items[:24]
    rows = [
        {"question": row["question"], "cop": row["answer"]}
        | dict(zip(("opa", "opb", "opc", "opd"), row["choices"], strict=True))
        for row in (item.content for item in items)
    ]
    ours, _ = score(task, items, model, "acc")
    assert ours == pytest.approx(evaluate(lm, "medmcqa/medmcqa.yaml", rows)["acc,none"], abs=1e-9)

    task, items = loaded("truthfulqa_mc2", data)
    items = items[:6]
    targets = [{"choices": item.content["choices"], "labels": item.content["labels"]} for item in items]
    rows = [
        {"question": item.content["question"], "mc1_targets": each, "mc2_targets": each}
        for item, each in zip(items, targets, strict=True)
    ]
    ours, _ = score(task, items, model, "mc2")
    assert ours == pytest.approx(evaluate(lm, "truthfulqa/truthfulqa_mc2.yaml", rows)["acc,none"], abs=1e-5)

    task, items = loaded("gsm8k", data)
    items = items[:3]
    shots = [dict(each) for each in task.examples[""]]
    direct = evaluate(
        lm, "gsm8k/gsm8k.yaml", [dict(item.content) for item in items], shots, fewshot_config={"sampler": "first_n"}
    )
    ours, outcomes = score(task, items, model, "flexible")
    replies = {sample["doc_id"]: sample["resps"][0][0] for sample in direct["samples"]}
    assert [outcome.reply for outcome in outcomes] == [replies[place] for place in range(len(items))]
    assert ours == direct["exact_match,flexible-extract"]


def test_a_model_that_knows_the_answer_is_always_right(data: Path) -> None:
    task, items = loaded("pubmedqa", data)
    answers = {item.content["question"]: item.content["answer"] for item in items}

    def reply(request: Likelihood) -> Any:
        from fedloom.evaluation.asking.requests import Scored

        question = request.context.rpartition("\nQuestion: ")[2].removesuffix("\nAnswer:")
        return Scored(float(request.continuation == f" {['yes', 'no', 'maybe'][answers[question]]}"), 1)

    ours, outcomes = score(task, items, StandIn(reply), "acc")
    assert ours == 1.0
    assert task.compute(task.metrics[1], outcomes) == 1.0
