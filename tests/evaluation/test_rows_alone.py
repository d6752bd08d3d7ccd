"""A model that reads its padding replies to many requests as it does to one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedloom.evaluation.asking.child_model import ChildModel
from fedloom.evaluation.asking.requests import Generate
from tests.train.conftest import Lab
from tests.train.local_requests import QUESTIONS, ask
from tests.zoo.families import BY_NAME, TOKENIZER

pytestmark = pytest.mark.train

ASKED = [Generate(each.prompt, (), 12) for each in QUESTIONS]


@pytest.fixture
def recurrent(tmp_path: Path) -> Path:
    family = BY_NAME["RWKV"]
    model = replace(family, config=family.config | {"context_length": 512}).build()
    with torch.no_grad():  # far from uniform, so that what is read decides
        for weight in model.parameters():
            weight.mul_(3)
    model.save_pretrained(tmp_path / "rwkv")
    TOKENIZER.save_pretrained(tmp_path / "rwkv")
    return tmp_path / "rwkv"


def test_texts_after_prompts(new_model: Callable[..., ChildModel], recurrent: Path) -> None:
    model = new_model(model=recurrent)
    assert model.ask(ASKED) == [model.ask([each])[0] for each in ASKED]


def test_answers(lab: Lab, recurrent: Path) -> None:
    base = {"path": recurrent, "fingerprint": None, "template": "alpaca", "max_new_tokens": 6}
    alone = [ask(lab, questions=[each], **base)[0] for each in QUESTIONS]
    assert ask(lab, micro_batch=8, **base) == alone
