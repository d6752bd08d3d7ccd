"""What tasks of a judge share: what is sent, what it may cost, and when there is no number."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.judging.budget import Cost
from fedloom.evaluation.judging.client import JudgeFailed
from fedloom.evaluation.judging.facts import JudgeFacts, facts_of
from fedloom.evaluation.judging.judge import Judge
from fedloom.evaluation.judging.open_judge import MOST_UNRATED, OpenJudge
from fedloom.evaluation.judging.question import JUDGE_MAX_NEW_TOKENS, Question
from fedloom.evaluation.judging.reply import Judgement
from fedloom.evaluation.judging.templates import Template
from fedloom.evaluation.tasks.base import HarnessFailed, Item, Items, Task
from fedloom.evaluation.tasks.chat.benches import Bench
from fedloom.evaluation.tasks.chat.questions import read_bench

_PLACES = {1: "", 2: "-multi-turn"}


class NoJudge(Exception):
    """Nobody named a judge."""

    def __init__(self) -> None:
        super().__init__("give --judge-url and --judge-model: a judge rates the answers")


class JudgedTask(Task):
    """A task whose outcomes a judge says.

    Args:
        bench: its questions.
    """

    in_chat = True
    judge: Judge | None = None
    """Set by the plan."""
    first_model: Model | None = None
    """Set by the run: the model that others are compared with."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.files = bench.files
        self.n_published = bench.n_questions
        self.templates: Mapping[str, Template] = {}
        self._open: OpenJudge | None = None
        self._judgements: list[Judgement] = []

    def load(self, data: Path) -> Items:
        items, self.templates = read_bench(self.bench, data)
        return items

    def check(self) -> None:
        """Raises NoJudge."""
        if self.judge is None:
            raise NoJudge

    def begin(self, judge: OpenJudge, first_model: Model) -> None:
        """Before the first model of a run is asked. judge: with the replies of the run's folder."""
        self._open, self.first_model, self._judgements = judge, first_model, []

    @property
    def judge_facts(self) -> JudgeFacts | None:
        """Who judged, when, and what it cost; None if nobody did."""
        return facts_of(self._open.endpoint, self._judgements) if self._open is not None and self._judgements else None

    @abstractmethod
    def cost(self, items: Sequence[Item], n_models: int) -> Cost:
        """The most that a run costs."""

    def template_of(self, item: Item, turn: int, single: str, with_reference: str) -> Template:
        """The prompt for a turn. single, with_reference: names of the prompts for the first turn."""
        name = with_reference if self.bench.has_reference(item.group) else single
        return self.templates[f"{name}{_PLACES[turn]}"]

    def question(self, item: Item, turn: int, template: Template, answers: Mapping[str, str]) -> Question:
        """What the judge is asked. answers: by placeholder."""
        return Question(
            messages=template.filled({**item.content, **answers}),
            temperature=self.bench.judge_temperature,
            max_new_tokens=JUDGE_MAX_NEW_TOKENS,
            task=self.name,
            item=item.id,
            turn=turn,
            template=template.name,
        )

    def judgements(self, questions: Sequence[Question]) -> list[Judgement | str]:
        """The judgements, or why there is none, in the order of the questions. Raises HarnessFailed."""
        if self._open is None:
            raise NoJudge
        try:
            found = self._open.ask(questions)
        except JudgeFailed as error:
            raise HarnessFailed(str(error)) from error
        self._judgements += [each for each in found if isinstance(each, Judgement)]
        return found

    def check_unrated(self, n_unrated: int, n_asked: int, what: str) -> None:
        """Raise HarnessFailed if too many replies say nothing: without them a number would be of other questions."""
        if n_unrated > MOST_UNRATED * n_asked:
            raise HarnessFailed(
                f"the judge {self.judge.endpoint if self.judge else ''} gave no {what} in {n_unrated:,} of {n_asked:,} "
                f"replies; above {100 * MOST_UNRATED:g} % there is no number; its replies are in the folder judgements"
            )
