"""A task whose replies are one line of code, which is compared with a reference and does not run."""

from collections.abc import Sequence

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.requests import Generate
from fedloom.evaluation.tasks.base import Item, Outcome, Task, TaskMetric
from fedloom.evaluation.tasks.code.bleu import RULES, bleu
from fedloom.evaluation.tasks.code.replies import fenced_code
from fedloom.evaluation.tasks.flags import EMPTY, flags_of
from shared.digest import sha256_of_parts


class LineTask(Task):
    """Items have ``text`` and ``reference``.

    Args:
        in_chat: whether the model is asked in its chat template; its line may then stand in a fenced block.
    """

    shots = 2
    max_new_tokens = 256
    entry: str
    solved: Sequence[tuple[str, str]]
    exact_match: TaskMetric | None = None

    def __init__(self, rules: Sequence[str], in_chat: bool = False) -> None:
        self.in_chat = in_chat
        self.metrics = [TaskMetric(rule, "BLEU", RULES[rule], "corpus") for rule in rules]
        self.metrics += [self.exact_match] if self.exact_match else []
        self.name += "_chat" if in_chat else ""
        self.title += " (chat)" if in_chat else ""

    def prompt(self, item: Item) -> str:
        """Two solved instructions and one to solve."""
        solved = "".join(f"\nInstruction:\n{text}\nSolution:\n{line}" for text, line in self.solved)
        return f"{self.entry}\n{solved}\nInstruction:\n{item.content['text']}\nSolution:\n"

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        prompts = [self.prompt(item) for item in items]
        if self.in_chat:
            prompts = [model.chat_prompt([{"role": "user", "content": prompt}]) for prompt in prompts]
        stop = () if self.in_chat else ("\n",)
        replies = model.ask([Generate(prompt, stop, self.max_new_tokens) for prompt in prompts])
        outcomes = []
        for item, prompt, reply in zip(items, prompts, replies, strict=True):
            line = self.line_of(reply.text)
            reference = str(item.content["reference"])
            flags = flags_of(reply) | ({EMPTY} if not line else set())
            outcomes.append(
                Outcome(
                    item.id,
                    item.group,
                    {self.exact_match.name: float(line.split() == reference.split())} if self.exact_match else {},
                    texts=(line, reference),
                    flags=flags,
                    prompt_sha256=sha256_of_parts([prompt]),
                    reply=reply.text,
                    problem=reply.problem,
                )
            )
        return outcomes

    def line_of(self, reply: str) -> str:
        """The line of a reply: of a chat reply, the first of its fenced block, or of all of it."""
        code = (fenced_code(reply) or reply) if self.in_chat else reply
        return code.strip().split("\n")[0].strip()

    def compute(self, metric: TaskMetric, outcomes: Sequence[Outcome]) -> float:
        return bleu([outcome.texts for outcome in outcomes if outcome.texts is not None], metric.name)
