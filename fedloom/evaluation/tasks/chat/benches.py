"""The sets of FastChat: MT-Bench and Vicuna-Bench."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedloom.evaluation.tasks.base import DataFile
from fedloom.evaluation.tasks.files.known_files import known

_REPOSITORY = "github.com/lm-sys/FastChat, fastchat/llm_judge/data"
_LICENCE = "Apache-2.0"
_REFERENCE_CATEGORIES = frozenset({"math", "reasoning", "coding"})


def _file(path: str, n_rows: int, there: str) -> DataFile:
    return DataFile(path, known(path), n_rows, f"{there} of {_REPOSITORY}", _LICENCE)


PROMPTS = _file("judge_prompts.jsonl", 8, "judge_prompts.jsonl")
"""The prompts for judges."""


@dataclass(frozen=True)
class Bench:
    """A set of questions.

    Args:
        name, title: of its tasks.
        source: who made it, with licence.
        questions, references: its files. References are GPT-4's answers to questions that have a right answer.
        n_turns: questions that follow each other.
        max_new_tokens: most tokens of an answer.
        temperatures: of answers, by category.
        temperature: of other categories.
        judge_temperature: of the judge.
        n_questions: of the whole set.
    """

    name: str
    title: str
    source: str
    questions: DataFile
    references: DataFile
    n_turns: int
    max_new_tokens: int
    judge_temperature: float
    temperature: float = 0.7
    temperatures: Mapping[str, float] = field(default_factory=dict)
    n_questions: int = 80

    @property
    def files(self) -> tuple[DataFile, ...]:
        return self.questions, self.references, PROMPTS

    def temperature_of(self, category: str) -> float:
        """The temperature of an answer."""
        return self.temperatures.get(category, self.temperature)

    @staticmethod
    def has_reference(category: str) -> bool:
        """Whether the judge is given a reference."""
        return category in _REFERENCE_CATEGORIES


MT_BENCH = Bench(
    name="mt_bench",
    title="MT-Bench",
    source="MT-Bench (Zheng et al. 2023, Apache-2.0)",
    questions=_file("mt_bench/question.jsonl", 80, "mt_bench/question.jsonl"),
    references=_file("mt_bench/reference_answer_gpt-4.jsonl", 30, "mt_bench/reference_answer/gpt-4.jsonl"),
    n_turns=2,
    max_new_tokens=1024,
    judge_temperature=0.0,
    temperatures={
        **dict.fromkeys(("writing", "roleplay"), 0.7),
        **dict.fromkeys(("extraction", "math", "coding", "reasoning"), 0.0),
        **dict.fromkeys(("stem", "humanities"), 0.1),
    },
)
VICUNA_BENCH = Bench(
    name="vicuna_bench",
    title="Vicuna-Bench",
    source="Vicuna-Bench (Chiang et al. 2023, Apache-2.0)",
    questions=_file("vicuna_bench/question.jsonl", 80, "vicuna_bench/question.jsonl"),
    references=_file("vicuna_bench/reference_answer_gpt-4.jsonl", 10, "vicuna_bench/reference_answer/gpt-4.jsonl"),
    n_turns=1,
    max_new_tokens=2048,
    judge_temperature=0.2,
)
