"""The published examples of BBH: a text file for each of its tasks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fedloom.evaluation.tasks.base import BadData

_RULE = "-----\n"
_THINK = "\nA: Let's think step by step."
_ANSWER = re.compile(r"the answer is (.*)\.?$")


@dataclass(frozen=True)
class Example:
    """A question with its reasoning, whose end names the answer."""

    question: str
    reasoning: str
    answer: str


@dataclass(frozen=True)
class Prompts:
    """description: what stands before the examples."""

    description: str
    examples: Sequence[Example]


def read_prompts(text: str, path: str) -> Prompts:
    """Read a file of examples. Raises BadData if it is not what was published."""
    _, rule, body = text.replace("\r\n", "\n").partition(_RULE)
    description, *examples = body.split("\n\nQ: ")
    if not rule or not examples:
        raise BadData(f"{path} has no examples; is the file truncated?")
    return Prompts(description.strip(), [_example(each, f"{path}: example {i}") for i, each in enumerate(examples, 1)])


def _example(text: str, place: str) -> Example:
    question, think, reasoning = text.strip().partition(_THINK)
    reasoning = reasoning.lstrip(" \n")
    found = _ANSWER.search(reasoning)
    if not think or found is None:
        raise BadData(f"{place} has no reasoning that ends with an answer; is the file truncated?")
    return Example(question.strip(), reasoning, found.group(1).removesuffix("."))
