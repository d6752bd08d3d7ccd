"""What goes wrong with lm-evaluation-harness offline, each with a test that fails if it happens here."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from fedloom.evaluation.asking.requests import Generate, Likelihood, Scored, Text
from fedloom.evaluation.tasks.base import BadData, DataMissing, Item, Outcome
from fedloom.evaluation.tasks.registry import TASKS
from tests.support.published import harness as published
from tests.support.published.files import write_cells, write_jsonl
from tests.support.stand_in_models import StandIn, saying, uniform

pytest.importorskip("lm_eval")

from fedloom.errors import HarnessMissing
from fedloom.evaluation.harness.running import FOLDER
from fedloom.evaluation.harness.task import HarnessTask

HARNESS_TASKS = [name for name, make in TASKS.items() if isinstance(make(), HarnessTask)]


def load(name: str, data: Path) -> list[Item]:
    return list(TASKS[name]().load(data).items)


def run(name: str, data: Path, model: StandIn) -> list[Outcome]:
    task = TASKS[name]()
    return task.run(task.load(data).items, model)


def knowing(items: list[Item]) -> StandIn:
    """A model that finds the right option likeliest. It knows a question by its text."""

    def reply(request: Likelihood) -> Scored:
        item = next(item for item in items if item.content["question"] in request.context)
        row = item.content
        options = row.get("letters") or (["yes", "no", "maybe"] if "abstract" in row else list("ABCD"))
        return Scored(0.0 if request.continuation == f" {options[row['answer']]}" else -5.0, 1)

    return StandIn(reply)


def test_trap_1_tasks_are_files_of_ours_that_include_no_other() -> None:
    """An inline dict defines a new task, and overrides nothing."""
    files = {path.stem: path for path in FOLDER.glob("*.yaml")}
    assert {TASKS[name]().yaml for name in HARNESS_TASKS} == set(files)  # type: ignore[attr-defined]
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!function", lambda _, node: node.value)  # type: ignore[attr-defined]
    for name, path in files.items():
        content = yaml.load(path.read_text(), loader)
        assert content["task"] == name
        assert content.get("include", path.name) in {each.name for each in files.values()}
        assert not {"dataset_path", "dataset_name"} & set(content), "rows come from memory"


def test_trap_2_f1_over_three_labels_is_the_macro_mean(tmp_path: Path) -> None:
    """The harness's own F1 is that of two classes."""
    from sklearn.metrics import f1_score

    task = TASKS["pubmedqa"]()
    outcomes = task.run(task.load(published.pubmedqa(tmp_path)).items, uniform())
    true, predicted = zip(*(outcome.label for outcome in outcomes if outcome.label), strict=True)
    (metric,) = (each for each in task.metrics if each.name == "f1_macro")
    labels = list(metric.labels)
    expected = f1_score(true, predicted, labels=labels, average="macro", zero_division=0)
    assert task.compute(metric, outcomes) == pytest.approx(expected, abs=1e-12)
    without_maybe = [each for each in outcomes if "maybe" not in (each.label or ())]
    pairs = list(zip(*(each.label for each in without_maybe if each.label), strict=True))
    expected = f1_score(*pairs, labels=labels, average="macro", zero_division=0)
    assert task.compute(metric, without_maybe) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", list(TASKS))
def test_trap_3_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    """The harness says that a spec is not registered."""
    task = TASKS[name]()
    with pytest.raises(DataMissing, match=r"^put [\w/.-]+ into ") as caught:
        task.load(tmp_path)
    assert str(caught.value).split()[1] in {file.path for file in task.files}


@pytest.mark.deep
def test_trap_4_nothing_is_fetched(tmp_path: Path) -> None:
    """Some tasks of the harness load a metric of the hub as soon as they are imported."""
    script = (
        "import socket, sys; from pathlib import Path\n"
        "def refuse(*_, **__): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from tests.evaluation.test_harness_traps import run\n"
        "from tests.support.stand_in_models import saying\n"
        "outcomes = run('gsm8k', Path(sys.argv[1]), saying('#### 5'))\n"
        "assert len(outcomes) == 12"
    )
    published.gsm8k(tmp_path)
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("name", "write", "n"),
    [("crass", published.crass, 40), ("pubmedqa", published.pubmedqa, 30), ("medmcqa", published.medmcqa, 40)],
)
def test_trap_5_options_of_one_item_are_not_those_of_another(
    name: str, write: Callable[[Path], Path], n: int, tmp_path: Path
) -> None:
    """Arrow makes one struct of all keys of a file, so that each item gets every option of the file."""
    items = load(name, write(tmp_path))
    assert len(items) == n
    model = knowing(items)
    outcomes = run(name, tmp_path, model)
    assert {outcome.values["acc"] for outcome in outcomes} == {1.0}
    n_options = sum(len(item.content.get("letters", "abc" if name == "pubmedqa" else "abcd")) for item in items)
    assert len(model.asked) == n_options


def test_trap_5_the_options_of_truthfulqa_are_those_of_the_item(tmp_path: Path) -> None:
    items = load("truthfulqa_mc1", published.truthfulqa(tmp_path))
    model = uniform()
    run("truthfulqa_mc1", tmp_path, model)
    assert len(model.asked) == sum(len(item.content["choices"]) for item in items) == 20 * 2 + 20 * 4
    assert not any("None" in request.continuation for request in model.asked[:2])  # type: ignore[union-attr]


def test_trap_5_files_that_are_one_object_are_not_one_row(tmp_path: Path) -> None:
    assert len(load("drop", published.drop(tmp_path))) == 4
    assert len(load("bbh", published.bbh(tmp_path, 3))) == 27 * 3


@pytest.mark.parametrize("begin", [0, 1])
def test_trap_6_answers_counted_from_0_and_from_1_are_the_same(begin: int, tmp_path: Path) -> None:
    items = load("medmcqa", published.medmcqa(tmp_path, begin=begin))
    assert [item.content["answer"] for item in items] == [i % 4 for i in range(40)]
    assert f"counted from {begin}" in " ".join(TASKS["medmcqa"]().load(tmp_path).notes)


def test_trap_6_a_file_that_does_not_tell_is_refused(tmp_path: Path) -> None:
    rows = published.medmcqa_rows(40)
    for answers in ([1, 2, 3], [0, 4], [2, 5]):
        found = [row | {"cop": answers[i % len(answers)]} for i, row in enumerate(rows)]
        write_jsonl(tmp_path / "medmcqa/dev.json", found)
        with pytest.raises(BadData, match="counted from 0 or from 1"):
            load("medmcqa", tmp_path)


def test_trap_7_examples_of_drop_show_answers(tmp_path: Path) -> None:
    """The harness shows the names of the columns: "number,date,spans"."""
    model = saying("12")
    outcomes = run("drop", published.drop(tmp_path), model)
    for request in model.asked:
        assert isinstance(request, Generate)
        assert "number,date" not in request.prompt
        shown = [line for line in request.prompt.split("\n") if line.startswith("Answer:")]
        assert shown == ["Answer: 252", "Answer: Mara Quist", "Answer: 12 May 1704", "Answer:"]
    assert [outcome.values["em"] for outcome in outcomes] == [1, 0, 0, 0]


def test_trap_8_options_called_none_and_na_stay(tmp_path: Path) -> None:
    published.mmlu(tmp_path, 1)
    cells = ["Which?", "None", "NA", "nan", "null", "C"]
    write_cells(tmp_path / "mmlu/test/anatomy_test.csv", [cells])
    task = TASKS["mmlu_stem"]()
    (item,) = (item for item in task.load(tmp_path).items if item.group == "anatomy")
    model = uniform()
    task.run([item], model)
    request = model.asked[0]
    assert isinstance(request, Likelihood)
    assert request.context.endswith("Which?\nA. None\nB. NA\nC. nan\nD. null\nAnswer:")
    assert item.content["answer"] == 2


def test_trap_9_exactly_the_given_items_run_in_any_order_and_company(tmp_path: Path) -> None:
    """The harness's limit takes the first items, and its samples come in the order of the file."""
    task = TASKS["medqa"]()
    items = list(task.load(published.medqa(tmp_path)).items)
    whole = {outcome.item: outcome for outcome in task.run(items, uniform())}
    drawn = random.Random(1).sample(items, 9)
    model = uniform()
    assert task.run(drawn, model) == [whole[item.id] for item in drawn]
    assert len(model.asked) == 9 * 4
    assert task.run([], model) == []


def test_trap_10_each_item_has_its_value(tmp_path: Path) -> None:
    """Without the harness's resampling it has no standard error, so intervals are made of the values of items."""
    for name, write in (("medqa", published.medqa), ("gsm8k", published.gsm8k)):
        task = TASKS[name]()
        outcomes = task.run(task.load(write(tmp_path)).items, uniform(["#### 5"]))
        means = [metric.name for metric in task.metrics if metric.kind == "mean"]
        assert all(set(outcome.values) == set(means) for outcome in outcomes)


def test_trap_11_prompts_that_are_cut_are_counted(tmp_path: Path) -> None:
    def reply(request: Generate) -> Text:
        return Text("#### 5", 3, n_cut=7 if "Ann has 605" in request.prompt else 0)

    outcomes = run("gsm8k", published.gsm8k(tmp_path), StandIn(reply))
    assert ["cut" in outcome.flags for outcome in outcomes] == [i == 5 for i in range(12)]
    for path in FOLDER.glob("*.yaml"):
        if "generation_kwargs:" in (text := path.read_text()):
            assert "max_gen_toks: " in text, "the harness's default is the same for all sets"


def test_trap_12_a_capital_q_does_not_end_the_reasoning(tmp_path: Path) -> None:
    model = saying("The Queen rises. So the answer is (A)")
    task = TASKS["bbh"]()
    items = [item for item in task.load(published.bbh(tmp_path)).items if item.content["target"] == "(A)"]
    outcomes = task.run(items, model)
    assert {outcome.values["exact_match"] for outcome in outcomes} == {1.0}, "nor is a letter lost without a full stop"
    assert {outcome.values["exact_match_harness"] for outcome in outcomes} == {0.0}
    assert all(isinstance(each, Generate) and "Q" not in each.stop for each in model.asked)


def test_trap_13_groups_are_subjects_so_that_both_means_can_be_given(tmp_path: Path) -> None:
    published.mmlu(tmp_path, 1)
    write_cells(tmp_path / "mmlu/test/virology_test.csv", published.mmlu_cells("virology", 9))
    task = TASKS["mmlu_other"]()
    items = task.load(tmp_path).items
    outcomes = task.run(
        items, StandIn(lambda each: Scored(float("virology" in each.context) * (each.continuation == " A"), 1))
    )
    groups: dict[str, list[float]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.group, []).append(outcome.values["acc"])
    assert len(groups) == 13
    assert fmean(map(fmean, groups.values())) != fmean(outcome.values["acc"] for outcome in outcomes)


def test_trap_14_nothing_of_this_machine_is_in_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness puts the machine, its packages and the current folder's commit into its result."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    outcomes = run("medqa", published.medqa(tmp_path, 3), uniform())
    assert "Patient" not in repr(outcomes), "no text of a row either"
    assert sys.version.split()[0] not in repr(outcomes)


@pytest.mark.deep
def test_trap_15_no_row_stays_on_the_disk(tmp_path: Path) -> None:
    for name in ("home", "cache", "temporary", "here"):
        (tmp_path / name).mkdir()
    published.medqa(tmp_path / "data")
    script = (
        "import sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests.evaluation.test_harness_traps import run\n"
        "from tests.support.stand_in_models import uniform\n"
        "assert len(run('medqa', Path(sys.argv[1]), uniform())) == 40"
    )
    environment = {
        "PATH": "/usr/bin",
        "HOME": str(tmp_path / "home"),
        "HF_HOME": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path / "temporary"),
    }
    command = [sys.executable, "-c", script, str(tmp_path / "data")]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path / "here")
    left = [path for name in ("home", "cache", "temporary", "here") for path in (tmp_path / name).rglob("*")]
    assert not [path for path in left if path.is_file() and b"Patient" in path.read_bytes()]
    assert not list((tmp_path / "temporary").iterdir())
    assert not [path for path in left if path.suffix == ".arrow"]


def test_trap_16_no_chat_template_is_applied(tmp_path: Path) -> None:
    model = uniform(["#### 5"], has_chat=True)
    for name, write in (("gsm8k", published.gsm8k), ("medqa", published.medqa)):
        run(name, write(tmp_path), model)
        assert not TASKS[name]().in_chat
    assert model.facts.has_chat_template
    assert not any("<user>" in repr(request) for request in model.asked)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("mmlu_other", lambda data: published.mmlu(data, 21)),
        ("crass", lambda data: published.crass(data, 270)),
        ("medqa", lambda data: published.medqa(data, 300)),
        ("medmcqa", lambda data: published.medmcqa(data, 300)),
        ("pubmedqa", lambda data: published.pubmedqa(data, 800)),
        ("truthfulqa_mc1", lambda data: published.truthfulqa(data, 300)),
    ],
)
def test_a_model_that_draws_uniformly_is_at_chance(name: str, write: Callable[[Path], Path], tmp_path: Path) -> None:
    task = TASKS[name]()
    outcomes = task.run(task.load(write(tmp_path)).items, uniform())
    chance = task.metrics[0].chance
    assert chance is not None
    share = fmean(outcome.values["acc"] for outcome in outcomes)
    assert abs(share - chance) < 3 * (chance * (1 - chance) / len(outcomes)) ** 0.5
    assert len(outcomes) >= 270


def test_a_run_prints_nothing_and_leaves_the_random_state(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    published.gsm8k(tmp_path)
    published.medqa(tmp_path)
    random.seed(5)
    state = random.getstate()
    capfd.readouterr()
    for name in ("gsm8k", "medqa"):
        run(name, tmp_path, uniform(["#### 5"]))
    assert capfd.readouterr() == ("", "")
    assert random.getstate() == state


def test_an_item_with_a_problem_has_no_value(tmp_path: Path) -> None:
    def reply(request: Likelihood) -> Scored:
        if "Patient 3 " in request.context and request.continuation == " B":
            return Scored(float("nan"), 0, problem="needs 3000 positions, and the model has 2048")
        return Scored(-1.0, 1)

    outcomes = run("medqa", published.medqa(tmp_path, 6), StandIn(reply))
    assert [outcome.problem for outcome in outcomes if outcome.problem] == [
        "needs 3000 positions, and the model has 2048"
    ]
    assert outcomes[3].values == {}
    assert all(outcome.values for outcome in outcomes if not outcome.problem)
    assert all("tie" in outcome.flags for outcome in outcomes if not outcome.problem), "equal options are no knowledge"


def test_prompts_have_digests_that_tell_them_apart(tmp_path: Path) -> None:
    outcomes = run("medqa", published.medqa(tmp_path, 6), uniform())
    assert len({outcome.prompt_sha256 for outcome in outcomes}) == 6
    assert run("medqa", tmp_path, uniform(seed=1))[0].prompt_sha256 == outcomes[0].prompt_sha256


def test_without_the_harness_it_is_said_what_to_install(tmp_path: Path) -> None:
    published.medqa(tmp_path, 2)
    script = (
        "import sys; from pathlib import Path\n"
        "sys.modules['lm_eval'] = None\n"
        "import importlib.util; importlib.util.find_spec = lambda name: None\n"
        "from fedloom.evaluation.harness import running\n"
        "running.find_spec = lambda name: None\n"
        "from fedloom.evaluation.tasks.registry import TASKS\n"
        "task = TASKS['medqa'](); items = task.load(Path(sys.argv[1])).items\n"
        "try: task.run(items, None)\n"
        "except running.HarnessMissing as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stdout == "lm-evaluation-harness is not installed; run: pip install 'fedloom[eval]'\n"
    assert issubclass(HarnessMissing, Exception)


def test_tasks_are_made_and_read_without_the_harness(tmp_path: Path) -> None:
    published.medqa(tmp_path, 2)
    heavy = ["lm_eval", "datasets", "torch", "transformers", "sklearn", "pyarrow"]
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in heavy)
    script = (
        f"import sys; from pathlib import Path\n{blocked}"
        "from fedloom.evaluation.tasks.registry import TASKS\n"
        "for make in TASKS.values(): make()\n"
        "TASKS['medqa']().load(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


def test_rows_are_not_kept_after_a_run(tmp_path: Path) -> None:
    from fedloom.evaluation.harness import rows

    run("medqa", published.medqa(tmp_path, 2), uniform())
    assert rows._PARTS == {}
