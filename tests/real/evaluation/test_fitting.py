"""Prompts cut to a length by a real tokenizer, whose tokens are no words."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from fedloom.evaluation.tasks.fitting import fit
from fedloom.evaluation.tasks.registry import TASKS
from tests.support.stand_in_models import StandIn


@pytest.mark.parametrize("max_length", [512, 64])
def test_a_cut_prompt_is_as_long_as_it_may_be(smollm2: Path, phrase_bank: Path, max_length: int) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)

    class Counting(StandIn):
        def count_tokens(self, texts: Sequence[str]) -> list[int]:
            return [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]

    items = TASKS["fpb"]().load(phrase_bank).items[:40]
    long = " ".join(item.content["text"] for item in items)
    prompts = [*(item.content["text"] for item in items), long, f"{long} Ärger \U0001f600 Answer: "]
    model = Counting(lambda request: None)
    fitted = fit(prompts, model, max_length, 32)
    room = max_length - 1 - 32
    for prompt, each in zip(prompts, fitted, strict=True):
        (n_tokens,) = model.count_tokens([each.prompt])
        assert each.is_cut == (model.count_tokens([prompt])[0] > room)
        assert prompt.endswith(each.prompt)
        assert each.n_left == max_length - 1 - n_tokens
        if each.is_cut:
            assert room - 3 <= n_tokens <= room
        else:
            assert each.prompt == prompt
    assert fitted[-1].is_cut
    assert fitted[-2].is_cut
