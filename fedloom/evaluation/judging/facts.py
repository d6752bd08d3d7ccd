"""Who judged, and when: a part of each number, since scores of different judges cannot be compared."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedloom.evaluation.judging.budget import Cost
from fedloom.evaluation.judging.endpoint import Endpoint
from fedloom.evaluation.judging.reply import Judgement

_DAY = len("2026-01-01")


@dataclass(frozen=True)
class JudgeFacts:
    """A judge, as results have it.

    Args:
        model, host: as they were named.
        served: what the server says has replied: a name may come to mean another model.
        first, last: when the replies came, in UTC, as ISO 8601.
        cost: in tokens, of all replies.
    """

    model: str
    host: str
    served: Sequence[str]
    first: str
    last: str
    cost: Cost

    def __str__(self) -> str:
        """``gpt-4 (gpt-4-0613) at api.openai.com, 2026-01-31``."""
        others = [name for name in self.served if name != self.model]
        served = f" ({', '.join(others)})" if others else ""
        first, last = self.first[:_DAY], self.last[:_DAY]
        return f"{self.model}{served} at {self.host}, {first if first == last else f'{first} to {last}'}"


def facts_of(endpoint: Endpoint, judgements: Sequence[Judgement]) -> JudgeFacts:
    """The judge of replies. judgements: at least one; the same one counts once."""
    replies = {id(each): each for each in judgements}.values()
    return JudgeFacts(
        model=endpoint.model,
        host=endpoint.host,
        served=sorted({each.model for each in replies if each.model}),
        first=min(each.asked_at for each in replies),
        last=max(each.asked_at for each in replies),
        cost=sum((each.cost for each in replies), Cost()),
    )
