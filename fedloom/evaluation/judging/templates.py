"""FastChat's prompts for judges. They are read from ``judge_prompts.jsonl``, and not written anew here."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_FIELDS: Mapping[str, frozenset[str]] = {
    "single-v1": frozenset({"question", "answer"}),
    "single-math-v1": frozenset({"question", "answer", "ref_answer_1"}),
    "single-v1-multi-turn": frozenset({"question_1", "question_2", "answer_1", "answer_2"}),
    "single-math-v1-multi-turn": frozenset(
        {"question_1", "question_2", "answer_1", "answer_2", "ref_answer_1", "ref_answer_2"}
    ),
    "pair-v2": frozenset({"question", "answer_a", "answer_b"}),
    "pair-math-v1": frozenset({"question", "answer_a", "answer_b", "ref_answer_1"}),
    "pair-v2-multi-turn": frozenset(
        {"question_1", "question_2", "answer_a_1", "answer_a_2", "answer_b_1", "answer_b_2"}
    ),
    "pair-math-v1-multi-turn": frozenset(
        {
            *("question_1", "question_2", "answer_a_1", "answer_a_2", "answer_b_1", "answer_b_2"),
            *("ref_answer_1", "ref_answer_2"),
        }
    ),
}
"""The placeholders of each prompt."""


@dataclass(frozen=True)
class Template:
    """A prompt for a judge.

    Args:
        name: FastChat's.
        system: the system's message.
        prompt: the user's message, with placeholders such as ``{question}``.
    """

    name: str
    system: str
    prompt: str

    def filled(self, texts: Mapping[str, str]) -> list[dict[str, str]]:
        """The messages. All placeholders are replaced in one pass, so braces in answers stay what they are.

        Raises KeyError if texts lack a placeholder.
        """
        prompt = _PLACEHOLDER.sub(lambda found: texts[found[1]], self.prompt)
        return [{"role": "system", "content": self.system}, {"role": "user", "content": prompt}]

    @property
    def n_bytes(self) -> int:
        """The length of what is the same for all answers."""
        return len(self.system.encode()) + len(_PLACEHOLDER.sub("", self.prompt).encode())

    @property
    def placeholders(self) -> list[str]:
        """The names in the prompt, each as often as it is there."""
        return _PLACEHOLDER.findall(self.prompt)


def templates_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Template]:
    """The prompts of a file by name; those of other names are left out.

    Raises ValueError if one is missing, is there twice, or has other placeholders than FastChat's.
    """
    found: dict[str, Template] = {}
    for row in rows:
        name = row["name"]
        if name not in _FIELDS:
            continue
        if name in found:
            raise ValueError(f"{name} is there twice")
        if (fields := set(_PLACEHOLDER.findall(row["prompt_template"]))) != _FIELDS[name]:
            raise ValueError(f"{name} has the placeholders {', '.join(sorted(fields))}, and not FastChat's")
        found[name] = Template(name, row["system_prompt"], row["prompt_template"])
    if missing := _FIELDS.keys() - found.keys():
        raise ValueError(f"{min(missing)} is missing")
    return found
