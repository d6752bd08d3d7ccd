"""Which requests go together."""

from agent.child import supervisor
from fedloom.evaluation.asking.batches import MOST_NEW_TOKENS, batches
from fedloom.evaluation.asking.requests import Generate, Likelihood, Request, Rolling

LONGEST_TOKEN = 128
"""Bytes of the longest token of GPT-2's and Llama 3's tokenizers."""


def sizes(requests: list[Request]) -> list[int]:
    return [len(batch) for batch in batches(requests)]


def text_of(request: Request) -> str:
    match request:
        case Likelihood():
            return request.context
        case Rolling():
            return request.text
        case Generate():
            return request.prompt


def test_each_request_is_in_one_batch_of_its_kind_and_manner_the_longest_first() -> None:
    requests: list[Request] = []
    for number in range(200):
        text = "x" * (number * 37 % 101)
        requests += [Likelihood(text, "y"), Rolling(text), Generate(text, ("s",), 1 + number), Generate(text, (), 9)]
        requests.append(Generate(text, ("s",), 5, temperature=0.5, seed=number, sample=number))
    found = list(batches(requests))
    assert sorted(place for batch in found for place in batch) == list(range(1000))
    for manner in range(5):
        of_it = [batch for batch in found if {place % 5 for place in batch} == {manner}]
        lengths = [len(text_of(requests[place])) for batch in of_it for place in batch]
        assert len(lengths) == 200, "no batch is of two manners"
        assert lengths == sorted(lengths, reverse=True)


def test_a_batch_is_as_large_as_a_model_takes_and_a_line_holds() -> None:
    assert sizes([]) == []
    assert sizes([Likelihood("a", str(number)) for number in range(150)]) == [64, 64, 22]
    assert sizes([Generate("a", (), 256, sample=number) for number in range(70)]) == [32, 32, 6]
    assert sizes([Generate("a", (), 1024, sample=number) for number in range(64)]) == [31, 31, 2]
    assert sizes([Generate("a", (), 511 - number) for number in range(32)]) == [32], "each has a limit of its own"
    assert sizes([Generate("a", (), 40_000, sample=number) for number in range(2)]) == [1, 1]
    assert MOST_NEW_TOKENS * LONGEST_TOKEN + 32 * 200 < supervisor._LINE_BYTES
