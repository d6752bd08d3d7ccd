"""Answers of two models that a judge compares, in both orders, by FastChat's rules."""

from collections.abc import Mapping, Sequence

from fedloom.evaluation.asking.models import Model
from fedloom.evaluation.judging.budget import Cost
from fedloom.evaluation.judging.estimate import cost_of
from fedloom.evaluation.judging.reply import Judgement
from fedloom.evaluation.judging.verdicts import Winner, winner_of, winner_of_both
from fedloom.evaluation.tasks.base import COMPARED_WITH, Item, Outcome, TaskMetric
from fedloom.evaluation.tasks.chat.answers import Answers, answers_of
from fedloom.evaluation.tasks.chat.benches import Bench
from fedloom.evaluation.tasks.chat.judged_task import JudgedTask

_NAMES = ("pair-v2", "pair-math-v1")
_UNRATED = "the judge named no winner"
_SCORES: Mapping[Winner, float] = {"A": 0.0, "tie": 0.5, "B": 1.0}
"""Of the second model; the first one is A."""


class ComparedTask(JudgedTask):
    """How often an adapter's answers are better than the base model's, or than those of whichever model is first."""

    compares_models = True

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.name, self.title = f"{bench.name}_pairs", f"{bench.title}, pairs"
        self.origin = f"{bench.source}; prompts and rules of FastChat (Apache-2.0)"
        both = "the judge prefers it whichever answer is first"
        self.metrics = (
            TaskMetric(
                "win_rate", "win rate against the first model", f"wins and half of the ties: {both}", chance=0.5
            ),
            TaskMetric("win", "wins", f"its answer is better: {both}"),
            TaskMetric("tie", "ties", "the judge says so, or says something else in the other order"),
            TaskMetric("loss", "losses", "the first model's answer is better, whichever is first", best=-1),
            *(
                TaskMetric(f"win_rate_{n}", f"win rate of turn {n}", f"as win_rate, of turn {n}", chance=0.5)
                for n in (range(1, bench.n_turns + 1) if bench.n_turns > 1 else ())
            ),
        )

    def cost(self, items: Sequence[Item], n_models: int) -> Cost:
        costs = (
            cost_of(self.template_of(item, turn, *_NAMES), item.content, self.bench.max_new_tokens)
            for item in items
            for turn in range(1, self.bench.n_turns + 1)
        )
        return sum(costs, Cost()) * (2 * (n_models - 1))

    def run(self, items: Sequence[Item], model: Model) -> list[Outcome]:
        own = answers_of(self.bench, items, model, self.seed)
        if self.first_model is None or model is self.first_model:
            return [
                Outcome(item.id, item.group, problem=COMPARED_WITH, prompt_sha256=found.prompt_sha256)
                for item, found in zip(items, own, strict=True)
            ]
        first = answers_of(self.bench, items, self.first_model, self.seed)
        asked = [
            (place, turn)
            for place in range(len(items))
            for turn in range(1, min(len(first[place].texts), len(own[place].texts)) + 1)
        ]
        questions = []
        for place, turn in asked:
            template = self.template_of(items[place], turn, *_NAMES)
            for a, b in ((first[place], own[place]), (own[place], first[place])):
                questions.append(self.question(items[place], turn, template, _sides(a, b)))
        judgements = self.judgements(questions)
        winners: list[dict[int, Winner | str]] = [{} for _ in items]
        for (place, turn), as_given, swapped in zip(asked, judgements[::2], judgements[1::2], strict=True):
            winners[place][turn] = _winner(as_given, swapped)
        self.check_unrated(
            sum(_verdict(each) is None for each in judgements), len(judgements), "verdict [[A]], [[B]] or [[C]]"
        )
        return [self._outcome(*each) for each in zip(items, first, own, winners, strict=True)]

    def _outcome(self, item: Item, first: Answers, own: Answers, winners: Mapping[int, Winner | str]) -> Outcome:
        scores = {turn: _SCORES[winner] for turn, winner in winners.items() if winner in _SCORES}  # type: ignore[index]
        problem = own.problem or (f"the first model: {first.problem}" if first.problem else "")
        values, missing = {}, {}
        for turn in range(1, self.bench.n_turns + 1) if self.bench.n_turns > 1 else ():
            if turn in scores:
                values[f"win_rate_{turn}"] = scores[turn]
            else:
                missing[f"win_rate_{turn}"] = winners.get(turn, problem)
        names, n = ("win_rate", "win", "tie", "loss"), len(scores)
        if scores:
            found = list(scores.values())
            counts = sum(found), found.count(1.0), found.count(0.5), found.count(0.0)
            values |= {name: count / n for name, count in zip(names, counts, strict=True)}
        elif winners:
            missing |= dict.fromkeys(names, str(next(iter(winners.values()))))
        unrated = {f"turn {turn} unrated" for turn in winners.keys() - scores.keys()}
        return Outcome(
            item.id,
            item.group,
            values=values,
            weights=dict.fromkeys(names, n) if scores else {},
            missing=missing,
            flags=own.flags | unrated,
            prompt_sha256=own.prompt_sha256,
            reply=own.as_text,
            problem="" if winners else problem,
        )


def _sides(a: Answers, b: Answers) -> dict[str, str]:
    sides = {"answer_a": a.texts[0], "answer_b": b.texts[0]}
    for name, answers in (("a", a), ("b", b)):
        sides |= {f"answer_{name}_{n}": text for n, text in enumerate(answers.texts, 1)}
    return sides


def _verdict(said: Judgement | str) -> Winner | None:
    return winner_of(said.text) if isinstance(said, Judgement) else None


def _winner(as_given: Judgement | str, swapped: Judgement | str) -> Winner | str:
    refused = next((said for said in (as_given, swapped) if isinstance(said, str)), None)
    if refused is not None:
        return f"the judge refused it: {refused}"
    return winner_of_both(_verdict(as_given), _verdict(swapped)) or _UNRATED
