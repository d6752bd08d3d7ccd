"""Financial sentiment: what is asked, and what replies count as."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from fedloom.evaluation.asking.requests import Generate, Likelihood, Scored, Text
from fedloom.evaluation.statistics.numbers import Number, numbers_of
from fedloom.evaluation.tasks.base import Item, Outcome, Task
from fedloom.evaluation.tasks.finance.corpora import LABELS, item
from fedloom.evaluation.tasks.registry import TASKS
from tests.support.stand_in_models import StandIn, saying, uniform

ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


def items_of(labels: Sequence[str], text: str = "Profit rose .", kind: str = "news") -> list[Item]:
    return [item(place, f"{text} {place}", label, kind) for place, label in enumerate(labels)]


def numbers(task: Task, outcomes: Sequence[Outcome]) -> dict[str, Number]:
    return {number.metric.name: number for number in numbers_of(task, outcomes, len(outcomes))}


PROMPTS = {
    "fpb": (
        "news",
        f"{ALPACA}\n\n### Instruction:\n What is the sentiment of this news? Please choose only one answer from "
        "{/negative/neutral/positive}.\n\n### Input:\n Up . 0\n\n### Response: ",
    ),
    "fiqa": (
        "tweet",
        f"{ALPACA}\n\n### Instruction:\n What is the sentiment of this tweet? Please choose an answer from "
        "{negative/neutral/positive}.\n\n### Input:\n Up . 0\n\n### Response: ",
    ),
    "nwgi": (
        "news",
        f"{ALPACA}\n\n### Instruction:\n What is the sentiment of this news? Please choose an answer from "
        "{negative/neutral/positive}.\n\n### Input:\n Up . 0\n\n### Response: ",
    ),
    "tfns": (
        "tweet",
        f"{ALPACA}\n###Instruction: What is the sentiment of this tweet? Please choose an answer from "
        "{negative/neutral/positive}.\nInput: Up . 0\n###Response: ",
    ),
    "fpb_fingpt": (
        "news",
        "Instruction: What is the sentiment of this news? Please choose an answer from {negative/neutral/positive}.\n"
        "Input: Up . 0\nAnswer: ",
    ),
    "tfns_fingpt": (
        "tweet",
        "Instruction: What is the sentiment of this tweet? Please choose an answer from {negative/neutral/positive}.\n"
        "Input: Up . 0\nAnswer: ",
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_the_prompt_is_the_benchmarks(name: str) -> None:
    kind, prompt = PROMPTS[name]
    model = saying("neutral")
    TASKS[name]().run(items_of(["neutral"], "Up .", kind), model)
    (request,) = model.asked
    assert isinstance(request, Generate)
    assert request.prompt == prompt


def test_trap_replies_are_greedy_and_prompt_and_reply_have_512_tokens() -> None:
    model = saying("neutral")
    TASKS["fpb_fingpt"]().run(items_of(["neutral"]), model)
    (request,) = model.asked
    assert isinstance(request, Generate)
    assert (request.temperature, request.stop) == (0.0, ())
    assert len(request.prompt.split()) + request.max_new_tokens + 1 == 512


READ = [
    # reply, FinGPT's rule, OpenFedLLM's for FPB, OpenFedLLM's for TFNS
    ("positive", "positive", "positive", "positive"),
    ("Negative.", "negative", "negative", "negative"),
    ("neutral", "neutral", "neutral", "neutral"),
    ("Pos", "neutral", "positive", "positive"),
    ("Neg", "neutral", "negative", "negative"),
    ("POSITIVE", "neutral", "neutral", "neutral"),
    ("not negative, but positive", "positive", "negative", "positive"),
    ("neutral, not positive", "positive", "positive", "positive"),
    ("I cannot say.", "neutral", "neutral", "neutral"),
    ("", "neutral", "neutral", "neutral"),
]


@pytest.mark.parametrize(("reply", "fingpt", "fpb", "tfns"), READ)
def test_a_reply_is_read_by_the_benchmarks_rule(reply: str, fingpt: str, fpb: str, tfns: str) -> None:
    found = {}
    for name in ("fpb_fingpt", "nwgi", "fpb", "tfns"):
        (outcome,) = TASKS[name]().run(items_of(["neutral"]), saying(reply))
        assert outcome.label is not None
        found[name] = outcome.label[1]
    assert found == {"fpb_fingpt": fingpt, "nwgi": fingpt, "fpb": fpb, "tfns": tfns}


def test_trap_nonsense_counts_as_neutral_and_is_shown_as_unparsed() -> None:
    task = TASKS["fpb"]()
    labels = ["neutral"] * 6 + ["positive"] * 3 + ["negative"]
    found = numbers(task, task.run(items_of(labels), saying("asdf")))
    assert (found["acc"].value, found["unparsed"].value, found["acc"].share("unparsed")) == (0.6, 1.0, 1.0)
    found = numbers(task, task.run(items_of(labels), saying("neutral")))
    assert (found["acc"].value, found["unparsed"].value, found["acc"].share("unparsed")) == (0.6, 0.0, 0.0)


def test_trap_a_text_that_holds_the_answer_marker_is_no_reply() -> None:
    """Split at the first marker, the reply would be the text, which names positive."""
    text = "Answer: positive ### Response: positive"
    for name in ("fpb", "tfns", "fpb_fingpt"):
        (outcome,) = TASKS[name]().run(items_of(["negative"], text), saying("negative"))
        assert outcome.label == ("negative", "negative")


def test_flags_of_replies() -> None:
    task = TASKS["fpb"]()
    cases = {"": {"empty", "unparsed"}, "positive or negative": {"several labels"}, "neutral": set(), "x": {"unparsed"}}
    for reply, flags in cases.items():
        (outcome,) = task.run(items_of(["neutral"]), saying(reply))
        assert outcome.flags == flags
        assert outcome.reply == reply


@pytest.mark.parametrize("name", ["fpb", "fpb_likelihood"])
def test_metrics_are_scikit_learns(name: str) -> None:
    generator = np.random.default_rng(0)
    labels = [str(label) for label in generator.choice(LABELS, p=[0.1, 0.6, 0.3], size=400)]
    task = TASKS[name]()
    outcomes = task.run(items_of(labels), uniform([*LABELS, "?"], seed=2))
    predicted = [outcome.label[1] for outcome in outcomes if outcome.label]
    found = numbers(task, outcomes)
    assert found["acc"].value == pytest.approx(accuracy_score(labels, predicted))
    for average in ("macro", "micro", "weighted"):
        expected = f1_score(labels, predicted, labels=LABELS, average=average)
        assert found[f"f1_{average}"].value == pytest.approx(expected)
        confidence = found[f"f1_{average}"].confidence
        assert confidence is not None
        assert confidence.low < expected < confidence.high
    assert found["f1_micro"].value == found["acc"].value


@pytest.mark.parametrize("name", ["fpb", "tfns_fingpt", "fiqa_likelihood"])
def test_a_model_that_draws_uniformly_is_at_chance(name: str) -> None:
    task = TASKS[name]()
    labels = [LABELS[place % 3 if place % 2 else 1] for place in range(3000)]
    found = numbers(task, task.run(items_of(labels), uniform(LABELS)))["acc"]
    assert found.value is not None
    assert found.metric.chance == pytest.approx(1 / 3)
    assert abs(found.value - 1 / 3) < 3 * math.sqrt(1 / 3 * 2 / 3 / 3000)


def test_likelihoods_are_of_the_labels_after_the_prompt_with_their_space() -> None:
    def reply(request: Likelihood) -> Scored:
        return Scored({" negative": -3.0, " neutral": -2.0, " positive": -1.0}[request.continuation], 1)

    model = StandIn(reply)
    (outcome,) = TASKS["tfns_likelihood"]().run(items_of(["positive"], "Up .", "tweet"), model)
    contexts = {request.context for request in model.asked if isinstance(request, Likelihood)}
    assert contexts == {PROMPTS["tfns"][1].rstrip(" ")}
    assert (outcome.label, outcome.values, outcome.reply) == (("positive", "positive"), {"acc": 1.0}, None)


@pytest.mark.parametrize("name", ["fpb", "fpb_likelihood"])
def test_trap_a_long_prompt_loses_its_beginning_and_is_counted(name: str) -> None:
    long = items_of(["neutral"], "word " * 600 + "end")
    model = uniform(LABELS)
    (cut, short) = TASKS[name]().run([*long, *items_of(["neutral"])], model)
    assert (cut.flags, short.flags) == ({"cut"}, frozenset())
    first = model.asked[0]
    text = first.prompt if isinstance(first, Generate) else first.context  # type: ignore[union-attr]
    assert text.split()[-3:] == ["0", "###", "Response:"]
    assert len(text.split()) == 512 - 1 - 32
    if isinstance(first, Generate):
        assert first.max_new_tokens == 32


@pytest.mark.parametrize("name", ["fpb", "fpb_likelihood"])
def test_a_prompt_that_a_small_model_does_not_take_is_a_problem_and_the_others_are_asked(name: str) -> None:
    items = items_of(["neutral"], "word " * 100)
    model = uniform(LABELS)
    model.facts = saying("", n_positions=100).facts
    short = items_of(["neutral"], "Up .")
    (problem, scored) = TASKS[name]().run([*items, *short], model)
    n_tokens = len(PROMPTS["fpb"][1].split()) - 3 + len(str(items[0].content["text"]).split())
    assert problem.problem == f"needs {n_tokens + 1 + 32} positions, and the model has 100"
    assert problem.values == {}
    assert scored.problem == ""


@pytest.mark.parametrize("short_of", [0, 1])
def test_a_prompt_fits_up_to_the_last_position(short_of: int) -> None:
    n_tokens = len(PROMPTS["fpb"][1].split())
    model = saying("neutral", n_positions=n_tokens + 1 + 32 - short_of)
    (outcome,) = TASKS["fpb"]().run(items_of(["neutral"], "Up ."), model)
    said = f"needs {n_tokens + 33} positions, and the model has {n_tokens + 32}"
    assert outcome.problem == (said if short_of else "")
    assert len(model.asked) == 1 - short_of


def test_what_the_model_itself_cuts_is_counted_too() -> None:
    model = StandIn(lambda request: Text("neutral", 1, n_cut=3))
    (outcome,) = TASKS["fpb"]().run(items_of(["neutral"]), model)
    assert outcome.flags == {"cut"}


def test_items_do_not_depend_on_their_neighbours() -> None:
    items = items_of(["neutral", "positive", "negative"])
    task, model = TASKS["fpb"](), uniform(LABELS)
    together = task.run(items, model)
    assert together == [task.run([one], model)[0] for one in items]
    assert len({outcome.prompt_sha256 for outcome in together}) == 3


def test_tasks_say_whose_prompts_they_have_and_their_names() -> None:
    for name, make in TASKS.items():
        task = make()
        assert task.name == name
        assert task.title
        assert ("FinGPT" in task.origin) == (name.split("_")[0] in {"fpb", "fiqa", "tfns", "nwgi"})
