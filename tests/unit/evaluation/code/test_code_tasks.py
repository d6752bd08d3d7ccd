"""Tasks whose replies run, on rows that were made up in the published formats: prompts, programs, numbers."""

from pathlib import Path

import pytest

from fedloom.evaluation.asking.requests import Generate, Text
from fedloom.evaluation.sandbox.isolation import NoIsolation
from fedloom.evaluation.sandbox.sandbox import Sandbox
from fedloom.evaluation.tasks.base import HarnessFailed, Outcome
from fedloom.evaluation.tasks.code.code_task import CodeTask
from fedloom.evaluation.tasks.code.humaneval import HumanEval
from fedloom.evaluation.tasks.registry import TASKS
from tests.support.published import code as made_up
from tests.support.published.code import BODY, PROMPT, write
from tests.support.stand_in_models import StandIn, saying

pytestmark = pytest.mark.usefixtures("sandbox")

FILES = {
    "humaneval/HumanEval.jsonl.gz": made_up.HUMANEVAL,
    "humanevalpack/python/humanevalpack.jsonl": made_up.PACK,
    "mbpp/mbpp.jsonl": made_up.MBPP,
    "mbpp/sanitized-mbpp.json": made_up.SANITIZED,
    "ds1000/test.jsonl": made_up.DS1000,
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for path, rows in FILES.items():
        write(tmp_path, path, rows)
    return tmp_path


def run(name: str, data: Path, model: StandIn) -> list[Outcome]:
    task = TASKS[name]()
    assert task.name == name
    return task.run(task.load(data).items, model)


def passed(outcomes: list[Outcome]) -> list[float]:
    return [outcome.values["pass@1"] for outcome in outcomes]


class TestHumanEval:
    def test_a_completion_passes(self, data: Path) -> None:
        model = saying(BODY)
        assert passed(run("humaneval", data, model)) == [1, 1]
        assert model.asked[0] == Generate(
            PROMPT, ("\nclass ", "\ndef ", "\n#", "\n@", "\nprint", "\nif ", "\n```"), 512
        )

    def test_a_wrong_one_does_not(self, data: Path) -> None:
        assert passed(run("humaneval", data, saying("    return 0\n"))) == [0, 0]

    def test_a_helper_of_the_prompt_is_not_the_answers_in_the_tests(self, data: Path) -> None:
        """The tests halve what the answer gives for 0, and half of 1 is not 0."""
        answer = "    return 3.14159 if r else 1\ndef half(x): return 0\n"
        assert passed(run("humaneval", data, saying(answer))) == [0, 0]

    @pytest.mark.parametrize("code", ["def area(r):\n" + BODY, BODY, "import math\n" + PROMPT + BODY])
    def test_a_chat_reply_passes(self, data: Path, code: str) -> None:
        model = StandIn(lambda _: f"Of course.\n```python\n{code}```\nHope it helps.", has_chat=True)
        assert passed(run("humaneval_chat", data, model)) == [1, 1]
        assert PROMPT.rstrip() in model.asked[0].prompt
        assert model.asked[0].prompt.endswith("<assistant>")
        assert model.asked[0].stop == ()

    def test_a_chat_reply_without_code_fails_and_is_counted(self, data: Path) -> None:
        (first, _) = run("humaneval_chat", data, saying("No.", has_chat=True))
        assert (first.values, first.flags) == ({"pass@1": 0.0}, {"no code"})

    def test_of_twenty_samples(self, data: Path) -> None:
        model = StandIn(lambda request: BODY if request.sample < 5 else "    return 0\n")
        (first, _) = run("humaneval_n20", data, model)
        assert first.values == pytest.approx({"pass@1": 5 / 20, "pass@10": 1 - 3003 / 184_756})
        assert [request.sample for request in model.asked] == [*range(20), *range(20)]
        assert {request.temperature for request in model.asked} == {0.2}

    def test_what_happened_is_flagged(self, data: Path) -> None:
        replies = iter([Text("    while True: pass\n", 9), Text("    return bytes(2**33)", 9, False, 3)])
        task = HumanEval()
        task.seconds = 0.3
        loop, memory = task.run(task.load(data).items, StandIn(lambda _: next(replies)))
        assert loop.flags == {"timed out"}
        assert memory.flags == {"out of memory", "unfinished", "cut"}

    def test_a_harness_error_voids_the_number_of_the_task(self, data: Path) -> None:
        broken = {**made_up.HUMANEVAL[0], "test": "def check(candidate:"}
        write(data, "humaneval/HumanEval.jsonl.gz", [broken, made_up.HUMANEVAL[1]])
        with pytest.raises(HarnessFailed, match=r"at 1 of 2 programs \(the tests cannot be run: SyntaxError"):
            run("humaneval", data, saying(BODY))

    def test_a_prompt_that_the_model_does_not_take_is_no_failure_of_it(self, data: Path) -> None:
        write(data, "humaneval/HumanEval.jsonl.gz", made_up.HUMANEVAL)
        problem = "needs 513 positions, and the model has 256"
        outcomes = run("humaneval", data, saying(Text("", 0, problem=problem)))
        assert {outcome.problem for outcome in outcomes} == {problem}


class TestIsolation:
    def test_without_it_the_model_is_not_even_asked(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(data))
        model = saying(BODY)
        with pytest.raises(NoIsolation):
            run("humaneval", data, model)
        assert model.asked == []

    def test_it_is_flagged_where_the_caller_allowed_it(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(data))
        task = TASKS["humaneval"]()
        task.run_untrusted_code = True
        outcomes = task.run(task.load(data).items, saying(BODY))
        assert [(outcome.values["pass@1"], outcome.flags) for outcome in outcomes] == [(1, {"not isolated"})] * 2


class TestPack:
    HEAD = made_up.PACK[0]["declaration"]

    def test_the_prompt_to_fix_shows_the_tests(self, data: Path) -> None:
        model = saying(f"\n{BODY}\nprint(1)")
        assert passed(run("humanevalfix", data, model)) == [1]
        row = made_up.PACK[0]
        shown = f"{self.HEAD}{row['buggy_solution']}\n{row['test']}\nFix bugs in area.\n\n{self.HEAD}"
        assert model.asked[0].prompt == shown.strip()

    def test_the_prompt_to_fix_shows_the_docstring_in_its_other_form(self, data: Path) -> None:
        model = saying(f"\n{BODY}")
        assert passed(run("humanevalfix_docs", data, model)) == [1]
        shown = f"{PROMPT}{made_up.PACK[0]['buggy_solution']}\nFix bugs in area.\n\n{PROMPT}"
        assert model.asked[0].prompt == shown.strip()

    def test_the_prompt_to_write(self, data: Path) -> None:
        model = saying(f"\n{BODY}")
        assert passed(run("humanevalsyn", data, model)) == [1]
        assert model.asked[0].prompt == f"{made_up.PACK[0]['instruction']}\n\n{PROMPT}".strip()

    def test_the_bug_fails(self, data: Path) -> None:
        assert passed(run("humanevalfix", data, StandIn(lambda _: "\n" + made_up.PACK[0]["buggy_solution"]))) == [0]

    @pytest.mark.parametrize("name", ["humanevalfix_chat", "humanevalfix_docs_chat", "humanevalsyn_chat"])
    def test_chat(self, data: Path, name: str) -> None:
        assert passed(run(name, data, saying(f"```python\ndef area(r):\n{BODY}```", has_chat=True))) == [1]

    def test_common_imports_are_there_and_numpy_is_where_it_is_named(self, data: Path) -> None:
        answer = "\n    return Counter() and 0 or float(np.pi * r ** 2) + heapq.heappop([0])\n"
        assert passed(run("humanevalsyn", data, saying(answer))) == [1]


class TestMbpp:
    def test_the_prompt_is_that_of_the_paper(self, data: Path) -> None:
        model = saying("def add(x):\r\n  return x + 11\r\n")
        assert passed(run("mbpp", data, model)) == [1, 0]
        solved = "".join(
            f"You are an expert Python programmer, and here is your task: Write a function to add {n}. Your code "
            f"should pass these tests:\n\nassert add(0) == {n}\nassert add(1) == {n + 1}\nassert add(2) == {n + 2}\n"
            f"[BEGIN]\ndef add(x):\n  return x + {n}\n[DONE]\n\n"
            for n in (2, 3, 4)
        )
        asked = solved.split("[BEGIN]")[0].replace("add 2.", "add 11.")
        for k in range(3):
            asked = asked.replace(f"add({k}) == {2 + k}", f"add({k}) == {11 + k}")
        assert model.asked[0].prompt == f"{solved}{asked}[BEGIN]\n"
        assert model.asked[0].stop == ("[DONE]",)

    def test_all_tests_must_pass(self, data: Path) -> None:
        assert passed(run("mbpp", data, saying("def add(x):\n  return x + 11 if x < 2 else 0"))) == [0, 0]

    def test_the_sanitized_edition_imports_for_its_tests(self, data: Path) -> None:
        assert passed(run("mbpp_sanitized", data, saying("def add(x): return x + 12"))) == [0, 1]

    def test_chat(self, data: Path) -> None:
        model = saying("```python\ndef add(x):\n    return x + 12\n```", has_chat=True)
        assert passed(run("mbpp_chat", data, model)) == [0, 1]
        assert "add 2." not in model.asked[0].prompt

    def test_setup_code_makes_objects_of_the_answers_classes(self, data: Path) -> None:
        tree = {
            **made_up.MBPP[3],
            "code": "class Node:\n  def __init__(self, x):\n    self.left = None\ndef depth(n): return 1",
            "test_setup_code": "root = Node(1) \r\nroot.left = Node(2)\r\n",
            "test_list": ["assert depth(root) == 2"],
        }
        write(data, "mbpp/mbpp.jsonl", [*made_up.MBPP[:3], tree])
        answer = (
            "class Node:\n  def __init__(self, x):\n    self.left = None\n"
            "def depth(n): return 1 + depth(n.left) if n else 0"
        )
        assert passed(run("mbpp", data, saying(answer))) == [1]


class TestDs1000:
    def test_a_completion_runs_in_the_harness_of_its_row(self, data: Path) -> None:
        first, second = run("ds1000", data, saying("result = a * 2\n</code>\nEND SOLUTION"))
        assert (first.values, first.group) == ({"pass@1": 1.0}, "Numpy")
        assert (second.values, second.problem) == ({}, "needs no_such_library")

    @pytest.mark.parametrize(
        "reply", ["result = a", "result = 0\nfor _ in (1, 2): result += a", "import os; os._exit(0)"]
    )
    def test_both_of_its_tests_must_pass(self, data: Path, reply: str) -> None:
        assert passed(run("ds1000", data, saying(reply))[:1]) == [0]

    def test_chat(self, data: Path) -> None:
        model = saying("Sure:\n```python\nresult = 2 * a\n```", has_chat=True)
        assert passed(run("ds1000_chat", data, model)[:1]) == [1]


def test_equal_programs_run_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    real = Sandbox.run

    def counted(self: Sandbox, programs: list[object], on_result: object) -> object:
        ran.append(len(programs))
        return real(self, programs, on_result)  # type: ignore[arg-type]

    task = TASKS["mbpp_n20"]()
    assert isinstance(task, CodeTask)
    items = task.load(data).items
    monkeypatch.setattr("fedloom.evaluation.tasks.code.code_task.Sandbox", lambda *_: made_sandbox(counted))
    outcomes = task.run(items, saying("def add(x): return x + 11"))
    assert ran == [2]
    assert passed(outcomes) == [1, 0]


def made_sandbox(run: object) -> Sandbox:
    box = Sandbox()
    box.run = run.__get__(box)  # type: ignore[attr-defined, method-assign]
    return box
