"""Reward accuracy: how often a model finds the chosen completion of a pair likelier than the rejected one."""

from collections.abc import Sequence
from pathlib import Path

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.requests import Likelihood, Scored
from fedloom.evaluation.tasks.base import BadData, DataFile, Item, Items, Outcome, Task, TaskMetric
from fedloom.evaluation.tasks.files.columns import Columns, Row
from fedloom.evaluation.tasks.files.source import Source
from shared.digest import sha256_of_parts

_FILE = DataFile(
    "preferences/pairs.jsonl",
    where="pairs of your own: rows with prompt, chosen and rejected, or with two whole conversations in chosen and "
    "rejected",
    licence="your own",
)
_REPLY = "\n\nAssistant:"
"""Before the last reply of a conversation as Anthropic's HH has it."""


class Preferences(Task):
    """Raw texts, or in chat: the prompt in the model's template."""

    origin = "rules of Fedloom"
    files = (_FILE,)
    metrics = (
        TaskMetric("acc", "reward accuracy", "the chosen completion has the larger log-likelihood", chance=0.5),
        TaskMetric("acc_norm", "reward accuracy, by token", "as above, divided by the number of tokens", chance=0.5),
    )

    def __init__(self, in_chat: bool = False) -> None:
        """in_chat: whether prompts are rendered in the model's chat template."""
        self.in_chat = in_chat
        self.name = "preferences_chat" if in_chat else "preferences"
        self.title = "preferences, chat" if in_chat else "preferences"

    def load(self, data: Path) -> Items:
        """The pairs. Raises DataMissing and BadData."""
        source = Source(data)
        table = source.table(_FILE, Columns(values=("chosen", "rejected")))
        items = [Item(str(number), "", _pair(row, table.place(number))) for number, row in enumerate(table.rows)]
        return source.items(items, None)

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        """Raises NoChatTemplate, and what the model raises."""
        requests = []
        for item in items:
            prompt = item.content["prompt"]
            if self.in_chat:
                prompt = model.chat_prompt([{"role": "user", "content": prompt}])
            requests += [Likelihood(prompt, item.content[each]) for each in ("chosen", "rejected")]
        replies = model.ask(requests)
        return [
            _outcome(item, requests[2 * i : 2 * i + 2], replies[2 * i], replies[2 * i + 1])
            for i, item in enumerate(items)
        ]


def _pair(row: Row, place: str) -> dict[str, str]:
    """Prompt and completions. Two conversations are split before their last reply."""
    chosen, rejected, prompt = row["chosen"], row["rejected"], row.get("prompt")
    if not isinstance(chosen, str) or not isinstance(rejected, str) or not isinstance(prompt, str | None):
        raise BadData(f"{place}: prompt, chosen and rejected are not texts")
    if prompt is None:
        end = chosen.rfind(_REPLY, 0, _n_shared(chosen, rejected))
        if end < 0:
            raise BadData(f"{place} has no prompt, and no conversation that both begin with")
        prompt = chosen[: end + len(_REPLY)]
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    if chosen == rejected:
        raise BadData(f"{place}: chosen and rejected are the same")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _n_shared(first: str, second: str) -> int:
    """How many characters two texts have in common at their beginnings."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _outcome(item: Item, requests: Sequence[Likelihood], chosen: Scored, rejected: Scored) -> Outcome:
    prompt = sha256_of_parts(text for request in requests for text in (request.context, request.continuation))
    if problem := chosen.problem or rejected.problem:
        return Outcome(item.id, item.group, problem=problem, prompt_sha256=prompt)
    flags = {"cut"} if chosen.n_cut or rejected.n_cut else set()
    if chosen.log_prob == rejected.log_prob:
        flags.add("tie")
    by_token = chosen.log_prob / chosen.n_tokens, rejected.log_prob / rejected.n_tokens
    values = {"acc": float(chosen.log_prob > rejected.log_prob), "acc_norm": float(by_token[0] > by_token[1])}
    return Outcome(item.id, item.group, values, flags=frozenset(flags), prompt_sha256=prompt)
