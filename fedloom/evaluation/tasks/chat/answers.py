"""What a model answers, turn by turn. It sees its own earlier answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.asking.requests import Generate
from fedloom.evaluation.tasks.base import Item
from fedloom.evaluation.tasks.chat.benches import Bench
from fedloom.evaluation.tasks.fitting import too_long
from fedloom.evaluation.tasks.flags import flags_of
from shared.digest import sha256_of_parts

_MARKS, _N_REPLY = 1, 64
"""Tokens that a tokenizer puts before a text, and those that an answer has at the least."""


@dataclass
class Answers:
    """The answers of a model to one item.

    Args:
        texts: by turn; fewer than turns if there is a problem.
        flags: of all turns.
        problem: why there is no further answer; empty if there are all.
        prompt_sha256: over the first prompt and the later questions: the prompt of a later turn holds answers.
    """

    texts: list[str] = field(default_factory=list)
    flags: frozenset[str] = frozenset()
    problem: str = ""
    prompt_sha256: str = ""

    @property
    def as_text(self) -> str | None:
        """All answers, for the table of items; None if there is none."""
        return "\n\n[turn 2]\n\n".join(self.texts) if self.texts else None


def answers_of(bench: Bench, items: Sequence[Item], model: Model, seed: int) -> list[Answers]:
    """Ask all turns in the model's chat template. Raises NoChatTemplate, and what the model raises."""
    answers = [Answers() for _ in items]
    talks: list[list[dict[str, str]]] = [[] for _ in items]
    for turn in range(1, bench.n_turns + 1):
        places = [place for place, found in enumerate(answers) if not found.problem]
        for place in places:
            talks[place].append({"role": "user", "content": items[place].content[f"question_{turn}"]})
        prompts = [model.chat_prompt(talks[place]) for place in places]
        if turn == 1:
            for place, prompt in zip(places, prompts, strict=True):
                questions = (items[place].content[f"question_{later}"] for later in range(2, bench.n_turns + 1))
                answers[place].prompt_sha256 = sha256_of_parts([prompt, *questions])
        _ask(bench, items, model, seed, dict(zip(places, prompts, strict=True)), answers)
        for place in places:
            if not answers[place].problem:
                talks[place].append({"role": "assistant", "content": answers[place].texts[-1]})
    return answers


def _ask(
    bench: Bench, items: Sequence[Item], model: Model, seed: int, prompts: dict[int, str], answers: list[Answers]
) -> None:
    """Add the answers of one turn."""
    requests = {}
    for (place, prompt), n_tokens in zip(prompts.items(), model.count_tokens(list(prompts.values())), strict=True):
        needed, most = n_tokens + _MARKS + _N_REPLY, model.facts.n_positions
        if most is not None and needed > most:
            answers[place].problem = too_long(needed, model)
            continue
        n_left = bench.max_new_tokens if most is None else min(bench.max_new_tokens, most - _MARKS - n_tokens)
        requests[place] = Generate(prompt, (), n_left, bench.temperature_of(items[place].group), seed)
    for place, reply in zip(requests, model.ask(list(requests.values())), strict=True):
        found = answers[place]
        found.problem, found.flags = reply.problem, found.flags | flags_of(reply)
        if not reply.problem:
            found.texts.append(reply.text.strip())
