"""Which requests a model is asked together: those of one batch are one order to the child, and are stored together."""

from collections.abc import Iterator, Sequence
from typing import Any

from agent.orders.on_base.generate import MOST_PROMPTS
from fedloom.evaluation.asking.requests import Generate, Request

_MOST_SCORES = 64
MOST_NEW_TOKENS = 32_000
"""Of one batch, whose texts are one line of at most 4 MiB from the child: a token has up to 128 bytes."""


def batches(requests: Sequence[Request]) -> Iterator[list[int]]:
    """The places of requests in batches, each of one kind and decoded alike; the longest first.

    The longest show lack of memory at once, and requests of about one length need little padding.
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for i, request in enumerate(requests):
        alike.setdefault(_manner(request), []).append(i)
    for places in alike.values():
        batch: list[int] = []
        n_new = 0
        most = MOST_PROMPTS if isinstance(requests[places[0]], Generate) else _MOST_SCORES
        for i in sorted(places, key=lambda i: -_length(requests[i])):
            n = _n_new(requests[i])
            if batch and (len(batch) == most or n_new + n > MOST_NEW_TOKENS):
                yield batch
                batch, n_new = [], 0
            batch.append(i)
            n_new += n
        yield batch


def _manner(request: Request) -> tuple[Any, ...]:
    return (type(request), *((request.stop, request.temperature) if isinstance(request, Generate) else ()))


def _n_new(request: Request) -> int:
    return request.max_new_tokens if isinstance(request, Generate) else 0


def _length(request: Request) -> int:
    return sum(len(value) for value in vars(request).values() if isinstance(value, str))
