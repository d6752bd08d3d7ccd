"""Prompts, and rules that read a label from a reply: FinGPT's, and those of OpenFedLLM, which differ by corpus."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedloom.evaluation.tasks.finance.corpora import LABELS

Rule = tuple[tuple[str, tuple[str, ...]], ...]
"""Labels and the words that give them. The first label of which a word is in the reply counts; without any, neutral."""

_POSITIVE, _NEGATIVE = ("positive", "Positive"), ("negative", "Negative")
_FINGPT: Rule = (("positive", _POSITIVE), ("negative", _NEGATIVE))
_SHORT: Rule = (("positive", (*_POSITIVE, "Pos")), ("negative", (*_NEGATIVE, "Neg")))
_NEGATIVE_FIRST: Rule = _SHORT[::-1]
_ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


@dataclass(frozen=True)
class Frame:
    """How a text is asked, and how the reply is read.

    Args:
        name: in the names of tasks.
        title: for tables.
        origin: whose it is, with the licence.
        rule: for all corpora that have none of their own.
        rules: by corpus.
    """

    name: str
    title: str
    origin: str
    rule: Rule = _FINGPT
    rules: Mapping[str, Rule] = field(default_factory=dict)

    def prompt(self, corpus: str, kind: str, text: str) -> str:
        """The prompt. kind: news or tweet."""
        answers = "{negative/neutral/positive}"
        if self.name == "fingpt":
            ask = f"What is the sentiment of this {kind}? Please choose an answer from {answers}."
            return f"Instruction: {ask}\nInput: {text}\nAnswer: "
        choose = "only one answer from {/negative/neutral/positive}" if corpus == "fpb" else f"an answer from {answers}"
        ask = f"What is the sentiment of this {kind}? Please choose {choose}."
        if corpus == "tfns":
            return f"{_ALPACA}\n###Instruction: {ask}\nInput: {text}\n###Response: "
        return f"{_ALPACA}\n\n### Instruction:\n {ask}\n\n### Input:\n {text}\n\n### Response: "

    def label(self, corpus: str, reply: str) -> str:
        """The label that a reply gives; neutral for any that names none."""
        for label, words in self.rules.get(corpus, self.rule):
            if any(word in reply for word in words):
                return label
        return "neutral"

    def named(self, corpus: str, reply: str) -> set[str]:
        """The labels that a reply names: none if it cannot be read, several if it does not decide."""
        words = {"neutral": ("neutral", "Neutral"), **dict(self.rules.get(corpus, self.rule))}
        return {label for label in LABELS if any(word in reply for word in words[label])}


FINGPT = Frame("fingpt", "FinGPT's prompt", "prompt and rule of FinGPT's benchmark (AI4Finance Foundation, MIT)")
OPENFEDLLM = Frame(
    "openfedllm",
    "OpenFedLLM's prompt",
    "prompts and rules of OpenFedLLM (Apache-2.0), changed from FinGPT's benchmark (AI4Finance Foundation, MIT)",
    rules={"fpb": _NEGATIVE_FIRST, "tfns": _SHORT},
)
