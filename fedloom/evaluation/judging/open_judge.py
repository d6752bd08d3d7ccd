"""A judge as tasks ask it: many requests at once, each of them once, within a number of tokens."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from fedloom.evaluation.judging.budget import Budget, Cost
from fedloom.evaluation.judging.client import Client, JudgeFailed, RequestRefused
from fedloom.evaluation.judging.endpoint import Endpoint
from fedloom.evaluation.judging.judge import Judge
from fedloom.evaluation.judging.question import Question
from fedloom.evaluation.judging.reply import Judgement, judgement_of
from fedloom.evaluation.judging.store import JudgementStore

FOLDER = "judgements"
MOST_UNRATED = 0.05
"""With a larger share of replies that cannot be used, there is no number."""
_WAIT_S = 0.05

T = TypeVar("T")
Done = Callable[[int, int], None]
"""Called with the number of requests that have a reply, and how many there are."""


class OpenJudge:
    """A judge with its stored replies."""

    def __init__(self, judge: Judge, folder: Path) -> None:
        """Read its replies. folder: of the results. Raises OSError."""
        self.judge = judge
        self._store = JudgementStore(folder / FOLDER, judge.endpoint)
        self._used: set[str] = set()
        self.on_done: Done = lambda _done, _total: None

    @property
    def endpoint(self) -> Endpoint:
        return self.judge.endpoint

    def ask(self, questions: Sequence[Question]) -> list[Judgement | str]:
        """Ask what has no reply yet. A reply is on the disk as soon as it is there.

        Returns:
            The judgements, in the order of the questions; a text for a request that the judge refused: why.

        Raises:
            JudgeFailed: it cannot be asked, refuses too many requests, or would cost too much. What it said is kept.
            BadEnvironment: a proxy or authorities of the environment cannot be used.
            OSError: a reply cannot be stored.
        """
        digests = [each.digest(self.endpoint) for each in questions]
        new = {
            digest: question
            for digest, question in zip(digests, questions, strict=True)
            if self._store.find(digest) is None
        }
        for digest in dict.fromkeys(digests):
            if (known := self._store.find(digest)) is not None and digest not in self._used:
                self._used.add(digest)
                self.judge.budget.settle(0, known.cost.tokens)
        self._check_cost(list(new.values()))
        refused = _run(self._ask_all(new, len(set(digests)))) if new else {}
        return [self._store.find(digest) or refused[digest] for digest in digests]

    def _check_cost(self, new: Sequence[Question]) -> None:
        """Raise JudgeFailed, before any of it is sent, if what is to be asked could cost too much."""
        cost = sum((each.estimate for each in new), Cost())
        budget = self.judge.budget
        if new and budget.spent + cost.tokens > budget.most:
            raise JudgeFailed(_too_much(budget, f"is left for {cost.in_words()} at most"))

    async def _ask_all(self, new: Mapping[str, Question], n_total: int) -> dict[str, str]:
        """Ask, a few at once. Returns why requests were refused. The first failure ends all."""
        refused: dict[str, str] = {}
        waiting = iter(new.items())
        n_done = n_total - len(new)

        async def work(client: Client) -> None:
            nonlocal n_done
            for digest, question in waiting:
                try:
                    await self._ask_one(client, digest, question)
                except RequestRefused as error:
                    refused[digest] = str(error)
                    if len(refused) > MOST_UNRATED * n_total:
                        said = f"refused {len(refused):,} of {n_total:,} requests: {error}"
                        raise JudgeFailed(f"the judge {self.endpoint} {said}") from error
                n_done += 1
                self.on_done(n_done, n_total)

        self.on_done(n_done, n_total)
        async with Client(self.endpoint, self.judge.patience) as client:
            workers = [asyncio.create_task(work(client)) for _ in range(min(self.judge.patience.at_once, len(new)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for each in workers:
                    each.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        return refused

    async def _ask_one(self, client: Client, digest: str, question: Question) -> None:
        estimate, budget = question.estimate, self.judge.budget
        about = {name: getattr(question, name) for name in ("task", "item", "turn", "template")}

        def keep(raw: str) -> Judgement:
            try:
                found = judgement_of(raw, estimate, datetime.now(UTC).isoformat(timespec="seconds"))
            except ValueError as error:
                self._store.add_unusable(digest, about, raw, str(error))
                raise
            self._store.add(digest, about, raw, found)
            return found

        def wasted() -> None:
            budget.settle(0, estimate.tokens)
            if not budget.reserve(0):
                raise JudgeFailed(_too_much(budget, "is left: replies that nobody could use count too"))

        while not budget.reserve(estimate.tokens):
            if not budget.is_in_use:
                raise JudgeFailed(_too_much(budget, f"is left for {estimate.in_words()} at most"))
            await asyncio.sleep(_WAIT_S)
        spent = 0
        try:
            judgement = await client.ask(question.body(self.endpoint.model), keep, wasted)
            spent = judgement.cost.tokens
        finally:
            budget.settle(estimate.tokens, spent)
        self._used.add(digest)


def _too_much(budget: Budget, what: str) -> str:
    return (
        f"of the {budget.most:,} tokens of --judge-max-tokens, {budget.spent:,} are spent, and too little {what}; give "
        "more, or a smaller --limit: replies that are there are not asked for again"
    )


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, also where a loop runs, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
