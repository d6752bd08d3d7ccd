"""Each task against lm-evaluation-harness run directly on its own task, with the same model and the same items."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from fedloom.evaluation.asking.child_model import ChildModel
from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.requests import Generate, Likelihood, Scored, Text
from fedloom.evaluation.harness.task import HarnessTask
from fedloom.evaluation.tasks.base import Item, Outcome
from fedloom.evaluation.tasks.registry import TASKS
from tests.support.published import harness as published
from tests.support.published.files import write_cells
from tests.support.stand_in_models import StandIn, saying
from tests.support.suite.tiers import deep
from tests.support.tiny import make_model

pytest.importorskip("lm_eval")

from tests.evaluation.directly import Scripted, evaluate
from tests.evaluation.harness_lm import hflm

pytestmark = pytest.mark.train

NewModel = Callable[..., ChildModel]


@pytest.fixture(scope="session")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with 3,000 positions, as tasks with 1,024 new tokens need more than 512."""
    folder = make_model(tmp_path_factory.mktemp("longer"), seed=4)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 3000}))
    return folder


def made(name: str) -> HarnessTask:
    task = TASKS[name]()
    assert isinstance(task, HarnessTask)
    return task


def run(name: str, data: Path, model: Model, group: str | None = None) -> tuple[HarnessTask, list[Item], list[Outcome]]:
    task = made(name)
    items = [item for item in task.load(data).items if group in (None, item.group)]
    return task, items, task.run(items, model)


def mean(outcomes: list[Outcome], metric: str) -> float:
    assert not [outcome.problem for outcome in outcomes if outcome.problem]
    return fmean(outcome.values[metric] for outcome in outcomes)


def rows_of(items: list[Item]) -> list[dict[str, Any]]:
    return [dict(item.content) for item in items]


def of_medqa(row: Mapping[str, Any]) -> dict[str, Any]:
    endings = {f"ending{i}": choice for i, choice in enumerate(row["choices"])}
    return {"sent1": row["question"], "label": row["answer"], **endings}


def of_medmcqa(row: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(zip(("opa", "opb", "opc", "opd"), row["choices"], strict=True))
    return {"question": row["question"], "cop": row["answer"], **options}


def of_pubmedqa(row: Mapping[str, Any]) -> dict[str, Any]:
    answer = ["yes", "no", "maybe"][row["answer"]]
    return {"CONTEXTS": row["abstract"].split("\n"), "QUESTION": row["question"], "final_decision": answer}


def of_truthfulqa(row: Mapping[str, Any]) -> dict[str, Any]:
    targets = {"choices": row["choices"], "labels": row["labels"]}
    return {"question": row["question"], "mc1_targets": targets, "mc2_targets": targets}


OPTIONS: list[Any] = [
    ("medqa", published.medqa, "medqa/medqa.yaml", of_medqa, "acc"),
    ("medmcqa", published.medmcqa, "medmcqa/medmcqa.yaml", of_medmcqa, "acc"),
    ("pubmedqa", published.pubmedqa, "pubmedqa/pubmedqa.yaml", of_pubmedqa, "acc"),
    ("truthfulqa_mc1", partial(published.truthfulqa, n=16), "truthfulqa/truthfulqa_mc1.yaml", of_truthfulqa, "acc"),
    ("truthfulqa_mc2", partial(published.truthfulqa, n=16), "truthfulqa/truthfulqa_mc2.yaml", of_truthfulqa, "mc2"),
]


@pytest.mark.parametrize(
    ("name", "write", "yaml", "row", "metric"), [OPTIONS[0], *(deep(*each) for each in OPTIONS[1:])]
)
def test_questions_with_options(
    longer: Path,
    new_model: NewModel,
    tmp_path: Path,
    name: str,
    write: Callable[[Path], Path],
    yaml: str,
    row: Callable[[Mapping[str, Any]], dict[str, Any]],
    metric: str,
) -> None:
    _, items, outcomes = run(name, write(tmp_path), new_model(model=longer))
    direct = evaluate(hflm(longer), yaml, [row(each) for each in rows_of(items)])
    tolerance = 1e-9 if metric == "acc" else 1e-5
    assert mean(outcomes, metric) == pytest.approx(direct["acc,none"], abs=tolerance)
    by_place = {sample["doc_id"]: sample["acc"] for sample in direct["samples"]}
    assert [each.values[metric] for each in outcomes] == pytest.approx(
        [by_place[place] for place in range(len(items))], abs=tolerance
    )
    assert 0 < mean(outcomes, metric) < 1


@pytest.mark.deep
def test_mmlu_with_its_examples(longer: Path, new_model: NewModel, tmp_path: Path) -> None:
    published.mmlu(tmp_path, 12)
    write_cells(
        tmp_path / "mmlu/test/anatomy_test.csv",
        [*published.mmlu_cells("anatomy", 12), ["q", "None", "NA", "nan", "null", "B"]],
    )
    task, items, outcomes = run("mmlu", tmp_path, new_model(model=longer), "anatomy")
    shots = [dict(shot) for shot in task.examples["anatomy"]]
    lm = hflm(longer)
    direct = evaluate(
        lm, "mmlu/default/mmlu_anatomy.yaml", rows_of(items), shots, num_fewshot=5, tag=None, task_alias=None
    )
    assert mean(outcomes, "acc") == pytest.approx(direct["acc,none"], abs=1e-9)
    assert 0 < direct["acc,none"] < 1
    model = StandIn(lambda _: Scored(-1.0, 1))
    task.run(items, model)
    prompts = {each.context for each in model.asked if isinstance(each, Likelihood)}
    assert prompts == {sample["arguments"][0][0] for sample in direct["samples"]}


@pytest.mark.deep
def test_gsm8k_by_a_model(longer: Path, new_model: NewModel, tmp_path: Path) -> None:
    task, items, outcomes = run("gsm8k", published.gsm8k(tmp_path, 4), new_model(model=longer))
    shots = [dict(shot) for shot in task.examples[""]]
    direct = evaluate(hflm(longer), "gsm8k/gsm8k.yaml", rows_of(items), shots, fewshot_config={"sampler": "first_n"})
    replies = {sample["doc_id"]: sample["resps"][0][0] for sample in direct["samples"]}
    assert [outcome.reply for outcome in outcomes] == [replies[place] for place in range(len(items))]
    assert mean(outcomes, "strict") == direct["exact_match,strict-match"]
    assert mean(outcomes, "flexible") == direct["exact_match,flexible-extract"]


GSM8K_REPLIES = [
    lambda answer: f" She has them.\n#### {answer}",
    lambda answer: f" It is ${answer} in all.",
    lambda answer: f" #### {answer}. Then 7 more",
    lambda answer: "no number",
    lambda answer: f" ####{answer}",
    lambda answer: f" 1 + 2 = 3\n#### {answer.replace(',', '')}\nQuestion: 5?",
    lambda answer: "#### 5",
]


def asked_prompts(task: HarnessTask, items: list[Item]) -> list[str]:
    """The prompt of each item."""
    model = saying("")
    for item in items:
        task.run([item], model)
    return [request.prompt for request in model.asked]  # type: ignore[union-attr]


def scripted(task: HarnessTask, items: list[Item], replies: list[str]) -> tuple[Scripted, list[Outcome]]:
    """The harness's model and what came of the items, both with the same replies, cut at each one's stop strings."""
    texts = dict(zip(asked_prompts(task, items), replies, strict=True))

    def reply(request: Generate) -> Any:
        text = texts[request.prompt]
        for stop in request.stop:
            text = text.split(stop)[0]
        return Text(text, 1)

    return Scripted(texts), task.run(items, StandIn(reply))


def test_gsm8k_by_replies_of_all_kinds(tmp_path: Path) -> None:
    task = made("gsm8k")
    items = list(task.load(published.gsm8k(tmp_path, 14)).items)
    answers = [item.content["answer"].rpartition("#### ")[2] for item in items]
    lm, outcomes = scripted(task, items, [GSM8K_REPLIES[i % 7](answer) for i, answer in enumerate(answers)])
    shots = [dict(shot) for shot in task.examples[""]]
    direct = evaluate(lm, "gsm8k/gsm8k.yaml", rows_of(items), shots, fewshot_config={"sampler": "first_n"})
    for ours, theirs in (("strict", "strict-match"), ("flexible", "flexible-extract")):
        assert mean(outcomes, ours) == direct[f"exact_match,{theirs}"]
        assert 0 < mean(outcomes, ours) < 1
    assert mean(outcomes, "strict") != mean(outcomes, "flexible")
    assert [sorted(outcome.flags) for outcome in outcomes[3:5]] == [["unparsed"], []]


BBH_REPLIES = [
    lambda target: f"It rises. So the answer is {target}.",
    lambda target: f"It rises. So the answer is {target}",  # no full stop
    lambda target: f"The Queen rises. So the answer is {target}.",  # a capital Q
    lambda target: "I do not know",
    lambda target: f"So the answer is {target}.\n\nQ: What?",
    lambda target: "So the answer is (Z).",
    lambda target: f"the answer is  {target} .",
]


def test_bbh_by_replies_of_all_kinds(tmp_path: Path) -> None:
    task = made("bbh")
    items = [item for item in task.load(published.bbh(tmp_path, 7)).items if item.group == "snarks"]
    targets = [item.content["target"] for item in items]
    lm, outcomes = scripted(task, items, [reply(target) for reply, target in zip(BBH_REPLIES, targets, strict=True)])
    direct = evaluate(
        lm,
        "bbh/cot_fewshot/_cot_fewshot_template_yaml",
        rows_of(items),
        description=f"{items[0].content['description']}\n\n",
        doc_to_text="Q: {{input}}\nA: Let's think step by step.\n",
        fewshot_config={"sampler": "first_n", "samples": [dict(each) for each in task.examples["snarks"]]},
    )
    assert mean(outcomes, "exact_match_harness") == direct["exact_match,get-answer"]
    assert [outcome.values["exact_match"] for outcome in outcomes] == [1, 1, 1, 0, 1, 0, 1]
    assert [outcome.values["exact_match_harness"] for outcome in outcomes] == [1, 0, 0, 0, 1, 0, 1]
    assert ["unparsed" in outcome.flags for outcome in outcomes] == [False, False, False, True, False, False, False]


@pytest.mark.deep
def test_bbh_by_a_model(longer: Path, new_model: NewModel, tmp_path: Path) -> None:
    task, items, outcomes = run("bbh", published.bbh(tmp_path, 2), new_model(model=longer), "snarks")
    direct = evaluate(
        hflm(longer),
        "bbh/cot_fewshot/_cot_fewshot_template_yaml",
        rows_of(items),
        description=f"{items[0].content['description']}\n\n",
        doc_to_text="Q: {{input}}\nA: Let's think step by step.\n",
        fewshot_config={"sampler": "first_n", "samples": [dict(each) for each in task.examples["snarks"]]},
    )
    replies = {sample["doc_id"]: sample["resps"][0][0] for sample in direct["samples"]}
    assert [str(outcome.reply).partition("Q")[0] for outcome in outcomes] == [replies[i] for i in range(len(items))]
    assert mean(outcomes, "exact_match_harness") == direct["exact_match,get-answer"]


def test_bbh_direct_by_replies_of_all_kinds(tmp_path: Path) -> None:
    task = made("bbh_direct")
    items = [item for item in task.load(published.bbh(tmp_path, 5)).items if item.group == "navigate"]
    kinds = [" {}", "{}", " {} of course", " {}\nmore", "no"]
    lm, outcomes = scripted(
        task, items, [kind.format(item.content["target"]) for kind, item in zip(kinds, items, strict=True)]
    )
    direct = evaluate(
        lm,
        "bbh/fewshot/_fewshot_template_yaml",
        rows_of(items),
        description=f"{items[0].content['description']}\n\n",
        doc_to_text="Q: {{input}}\nA:",
        fewshot_config={"sampler": "first_n", "samples": [dict(each) for each in task.examples["navigate"]]},
    )
    assert mean(outcomes, "exact_match_harness") == direct["exact_match,none"] == 1 / 5
    assert [outcome.values["exact_match"] for outcome in outcomes] == [1, 1, 0, 1, 0]
    assert [outcome.values["starts_with"] for outcome in outcomes] == [1, 1, 1, 1, 0]


DROP_REPLIES = ["12", "Heron and Ina Brandt", "In 1893", "an engine, the old one", "", "3.0", "the heron", "Ina-Brandt"]


@pytest.mark.parametrize("reply", [*DROP_REPLIES[:2], *(deep(reply) for reply in DROP_REPLIES[2:])])
def test_drop_by_replies_of_all_kinds(tmp_path: Path, reply: str) -> None:
    task = made("drop_0shot")
    items = list(task.load(published.drop(tmp_path)).items)
    lm, outcomes = scripted(task, items, [reply] * len(items))
    rows = []
    for item, (_, answer, validated) in zip(items, published.DROP_QUESTIONS, strict=True):
        columns = {key: [each[key] for each in validated] for key in ("number", "date", "spans")}
        row = {"passage": item.content["passage"], "question": item.content["question"], "query_id": item.id}
        rows.append(row | {"answer": answer, "validated_answers": columns})
    direct = evaluate(lm, "drop/default.yaml", rows)
    for metric in ("em", "f1"):
        assert mean(outcomes, metric) == pytest.approx(direct[f"{metric},none"], abs=1e-9)


@pytest.mark.parametrize("name", ["crass", deep("drop")])
def test_our_own_formats_over_the_harness_own_model(
    longer: Path, new_model: NewModel, tmp_path: Path, name: str
) -> None:
    """The harness's model under our own task, against the child under the same."""
    from lm_eval.evaluator import evaluate as evaluate_tasks
    from lm_eval.tasks import TaskManager

    from fedloom.evaluation.harness.rows import Part, lent
    from fedloom.evaluation.harness.running import FOLDER

    write = {"crass": published.crass, "drop": published.drop}[name]
    _, items, outcomes = run(name, write(tmp_path), new_model(model=longer))
    with lent(Part(rows_of(items))) as key:
        manager = TaskManager(include_path=str(FOLDER), include_defaults=False, metadata={"part": key})
        task = manager.load([name])["tasks"][name]
        task.set_fewshot_seed(seed=1234)
        found = evaluate_tasks(lm=hflm(longer), task_dict={"tasks": {name: task}}, bootstrap_iters=0)
    for metric in outcomes[0].values:
        assert mean(outcomes, metric) == pytest.approx(found["results"][name][f"{metric},none"], abs=1e-9)
