"""Raw texts that are scored as training has them, whatever the tokenizer does at the border of prompt and answer."""

from typing import Any

import pytest

from agent.data.rows import Row
from agent.train.base.limits import InputLimits
from agent.train.data.tokenizing import TextTokenizer
from agent.train.local.raw_tokens import RawTokenizer
from tests.support.rendering import render

pytestmark = pytest.mark.train


@pytest.mark.parametrize("template", ["alpaca", "vicuna"])
@pytest.mark.parametrize("answer", ["the river", " rises", "\nAt night", "夜に"])
def test_apart_they_have_the_tokens_of_training(tokenizer: Any, template: str, answer: str) -> None:
    text = render(Row("What does it do?", "the river", completion=answer), template, tokenizer)
    ((trained, supervised),) = TextTokenizer(tokenizer, 4096).full_rows([text])
    (exchange,) = text.exchanges
    scored = RawTokenizer(tokenizer, InputLimits()).pair(exchange.prompt, exchange.answer, apart=True)
    n = supervised.index(True)
    end = [tokenizer.eos_token_id]
    assert [*scored.targets, *end] == trained[n:]
    assert [*scored.read[: -len(scored.targets) + 1 or None]] == trained[:n]


def test_otherwise_white_space_before_the_answer_is_scored_too(tokenizer: Any) -> None:
    raw = RawTokenizer(tokenizer, InputLimits())
    together, apart = (raw.pair("answer:  ", "the river", apart=each).targets for each in (False, True))
    assert len(together) >= len(apart)
    assert tokenizer.decode(apart).strip() == "the river"
