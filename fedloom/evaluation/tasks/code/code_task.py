"""A task whose replies are programs: they run in the sandbox, and pass or do not."""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.requests import Generate, Text
from fedloom.evaluation.sandbox.limits import FUNCTION, Limits
from fedloom.evaluation.sandbox.program import Kind, Program, Result, WholeProgram
from fedloom.evaluation.sandbox.sandbox import Sandbox
from fedloom.evaluation.tasks.base import HarnessFailed, Item, Outcome, Task, TaskMetric
from fedloom.evaluation.tasks.code.pass_at_k import pass_at_k
from fedloom.evaluation.tasks.flags import flags_of
from shared.digest import sha256_of_parts

NO_CODE = "no code"


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: one by greedy decoding, or several.

    Args:
        n: answers to each prompt.
        temperature: of the sampling; 0 for greedy decoding.
        ks: the k of pass@k, none above n.
    """

    n: int = 1
    temperature: float = 0.0
    ks: tuple[int, ...] = (1,)


GREEDY = Sampling()
TWENTY = Sampling(20, 0.2, (1, 10))


class CodeTask(Task):
    """A set of programming problems.

    Args:
        in_chat: whether the model is asked in its chat template, and answers with a fenced block.
        sampling: how answers are drawn.
    """

    stop: tuple[str, ...] = ()
    max_new_tokens = 512
    runs_code = True
    limits: Limits = FUNCTION

    def __init__(self, in_chat: bool = False, sampling: Sampling = GREEDY) -> None:
        self.in_chat = in_chat
        self.sampling = sampling
        drawn = "greedy" if sampling.n == 1 else f"{sampling.n} answers at temperature {sampling.temperature:g}"
        rule = f"share of problems whose tests all pass, {drawn}, 1 - C(n-c, k) / C(n, k)"
        self.metrics = [TaskMetric(f"pass@{k}", f"pass@{k}", f"{rule}; {self.form}") for k in sampling.ks]
        self.name += "_chat" if in_chat else ""
        self.name += f"_n{sampling.n}" if sampling.n > 1 else ""
        self.title += " (chat)" if in_chat else ""

    @property
    def form(self) -> str:
        """How answers are asked for."""
        return "chat template, first fenced block that defines it" if self.in_chat else "completion of the prompt"

    @abstractmethod
    def prompt(self, item: Item) -> str:
        """What a base model goes on after."""

    @abstractmethod
    def question(self, item: Item) -> str:
        """What a chat model is asked."""

    @abstractmethod
    def program(self, item: Item, reply: str) -> Program | WholeProgram | None:
        """What runs, of a reply; None if it has no code."""

    def problem(self, item: Item) -> str:  # noqa: ARG002
        """Why an item cannot be run here; empty if it can."""
        return ""

    def check(self) -> None:
        """Try the sandbox. Raises NoIsolation."""
        self._sandbox()

    def _sandbox(self) -> Sandbox:
        return Sandbox(self.run_untrusted_code, self.limits)

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        """Ask the model, and run its programs. Raises NoIsolation before the model is asked, and HarnessFailed."""
        sandbox = self._sandbox()
        problems = {item.id: self.problem(item) for item in items}
        asked = [item for item in items if not problems[item.id]]
        prompts = {item.id: self._rendered(item, model) for item in asked}
        samples = [(item, sample) for item in asked for sample in range(self.sampling.n)]
        requests = [self._request(prompts[item.id], sample) for item, sample in samples]
        replies = model.ask(requests)
        programs = [
            self.program(item, reply.text) if not reply.problem else None
            for (item, _), reply in zip(samples, replies, strict=True)
        ]
        distinct = list(dict.fromkeys(program for program in programs if program is not None))
        found = dict(zip(distinct, sandbox.run(distinct, lambda: self.on_program()), strict=True))
        nothing = Result(Kind.FAILED, NO_CODE, is_isolated=sandbox.is_isolated)
        _ensure_none_is_void(found.values())
        results = [found[program] if program is not None else nothing for program in programs]
        outcomes = []
        for item in items:
            if problems[item.id]:
                outcomes.append(Outcome(item.id, item.group, problem=problems[item.id]))
                continue
            mine = [index for index, (each, _) in enumerate(samples) if each is item]
            outcomes.append(
                self._outcome(item, prompts[item.id], [replies[i] for i in mine], [results[i] for i in mine])
            )
        return outcomes

    def _rendered(self, item: Item, model: Model) -> str:
        if self.in_chat:
            return model.chat_prompt([{"role": "user", "content": self.question(item)}])
        return self.prompt(item)

    def _request(self, prompt: str, sample: int) -> Generate:
        stop = () if self.in_chat else self.stop
        return Generate(prompt, stop, self.max_new_tokens, self.sampling.temperature, self.seed, sample)

    def _outcome(self, item: Item, prompt: str, replies: Sequence[Text], results: Sequence[Result]) -> Outcome:
        flags = {str(result.kind) for result in results} & {Kind.TIMED_OUT.value, Kind.OUT_OF_MEMORY.value}
        flags |= {NO_CODE for result in results if result.detail == NO_CODE}
        flags |= {flag for reply in replies for flag in flags_of(reply)}
        flags |= {"not isolated" for result in results if not result.is_isolated}
        n_passed = sum(result.kind is Kind.PASSED for result in results)
        values = {f"pass@{k}": pass_at_k(len(results), n_passed, k) for k in self.sampling.ks}
        return Outcome(
            item.id,
            item.group,
            values,
            flags=frozenset(flags),
            problem=next(filter(None, (reply.problem for reply in replies)), ""),
            prompt_sha256=sha256_of_parts([prompt]),
            reply="\n\n".join(reply.text for reply in replies),
        )


def _ensure_none_is_void(results: Collection[Result]) -> None:
    """Raise HarnessFailed if the sandbox failed at a program, which it was given twice."""
    details = [result.detail for result in results if result.kind is Kind.HARNESS_ERROR]
    if details:
        raise HarnessFailed(
            f"the sandbox failed at {len(details):,} of {len(results):,} programs ({details[0]}); replies are stored, "
            "and the same command runs the programs again"
        )
