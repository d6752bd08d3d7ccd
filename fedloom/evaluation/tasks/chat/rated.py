"""Answers that a judge rates from 1 to 10, by FastChat's rules."""

from collections.abc import Mapping, Sequence

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.judging.budget import Cost
from fedloom.evaluation.judging.estimate import cost_of
from fedloom.evaluation.judging.reply import Judgement
from fedloom.evaluation.judging.verdicts import rating_of
from fedloom.evaluation.tasks.base import Item, Outcome, TaskMetric
from fedloom.evaluation.tasks.chat.answers import Answers, answers_of
from fedloom.evaluation.tasks.chat.benches import Bench
from fedloom.evaluation.tasks.chat.judged_task import JudgedTask

_NAMES = ("single-v1", "single-math-v1")
_RULE = "the first [[n]] of the judge's reply, else its first [n], from 1 to 10; other replies do not count"
Ratings = Mapping[int, float | str]
"""By turn; why there is none."""


class RatedTask(JudgedTask):
    """The mean rating of all turns, and of each."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.name, self.title = bench.name, bench.title
        self.origin = f"{bench.source}; prompts and rules of FastChat (Apache-2.0)"
        turns = range(1, bench.n_turns + 1) if bench.n_turns > 1 else ()
        of = "the mean of all ratings" if turns else "the mean rating"
        self.metrics = (
            TaskMetric("rating", "rating, 1 to 10", f"{of}: {_RULE}", is_share=False),
            *(
                TaskMetric(f"turn_{n}", f"rating of turn {n}", f"as rating, of turn {n} alone", is_share=False)
                for n in turns
            ),
        )

    def cost(self, items: Sequence[Item], n_models: int) -> Cost:
        costs = (
            cost_of(self.template_of(item, turn, *_NAMES), item.content, self.bench.max_new_tokens)
            for item in items
            for turn in range(1, self.bench.n_turns + 1)
        )
        return sum(costs, Cost()) * n_models

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        answers = answers_of(self.bench, items, model, self.seed)
        asked = [(place, turn) for place, found in enumerate(answers) for turn in range(1, len(found.texts) + 1)]
        questions = []
        for place, turn in asked:
            item, texts = items[place], answers[place].texts
            by_name = {"answer": texts[0], **{f"answer_{n}": text for n, text in enumerate(texts, 1)}}
            questions.append(self.question(item, turn, self.template_of(item, turn, *_NAMES), by_name))
        ratings: list[dict[int, float | str]] = [{} for _ in items]
        for (place, turn), judgement in zip(asked, self.judgements(questions), strict=True):
            ratings[place][turn] = _rating(judgement)
        n_unrated = sum(isinstance(rating, str) for found in ratings for rating in found.values())
        self.check_unrated(n_unrated, len(asked), "rating from 1 to 10")
        return [self._outcome(*each) for each in zip(items, answers, ratings, strict=True)]

    def _outcome(self, item: Item, answers: Answers, ratings: Ratings) -> Outcome:
        turns = range(1, self.bench.n_turns + 1)
        given = [rating for rating in ratings.values() if not isinstance(rating, str)]
        values, missing = {}, {}
        for turn in turns if self.bench.n_turns > 1 else ():
            rating = ratings.get(turn, answers.problem)
            if isinstance(rating, str):
                missing[f"turn_{turn}"] = rating
            else:
                values[f"turn_{turn}"] = rating
        if given:
            values["rating"] = sum(given) / len(given)
        elif ratings:
            missing["rating"] = str(next(iter(ratings.values())))
        unrated = {f"turn {turn} unrated" for turn, rating in ratings.items() if isinstance(rating, str)}
        return Outcome(
            item.id,
            item.group,
            values=values,
            weights={"rating": len(given)} if given else {},
            missing=missing,
            flags=answers.flags | unrated,
            prompt_sha256=answers.prompt_sha256,
            reply=answers.as_text,
            problem="" if answers.texts else answers.problem,
        )


def _rating(said: Judgement | str) -> float | str:
    if isinstance(said, str):
        return f"the judge refused it: {said}"
    rating = rating_of(said.text)
    return rating if rating is not None else "the judge gave no rating"
