"""A trainer that is wrong and silent is refused in ``prepare``, and in words."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from agent.errors import TaskFailed
from agent.train import stack
from shared.wire.tasks.leases import FailureKind
from tests.train.conftest import LORA, Lab
from tests.train.kinds.test_training import NO_DROPOUT, train
from tests.train.trainers.conftest import with_trainer

pytestmark = pytest.mark.train

SGD = {"optimizer": "sgd", "weight_decay": 0.01}
"""With SGD each part of a step shows in the update."""
FROZEN_A = {"lora": LORA.model_copy(update={"freeze_a": True})}
UNLIKE = "it does not train as the algorithm asks"
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "forgets_a_layer": ("the adapter is not the campaign's: 2 of its tensors are missing", {}),
    "half_precision": ("lora_A.weight is bfloat16, not float32", {}),
    "other_modules": ("it trains 2 tensors that belong to no adapter of this campaign", {}),
    "no_peft": ("its attach returned LlamaForCausalLM instead of a PEFT model", {}),
    "other_scale": ("it evaluates rows otherwise than Fedloom's own trainer", {}),
    "wrong_scores": ("it evaluates rows otherwise than Fedloom's own trainer", {}),
    "wrong_shape": ("not one for each row", {}),
    "wrong_loss": ("its loss in training is not that of Fedloom's own trainer", {}),
    "same_rows_again": ("in training it left out", {}),
    "other_order": ("its loss in training is not that of Fedloom's own trainer", {}),
    "half_of_the_steps": ("in training it reported 1 of 2 steps", {}),
    "says_it_stepped": ("its update is not that of Fedloom's own trainer", SGD),
    "no_warmup": ("is not that of Fedloom's own trainer", SGD),  # the second step's loss, or the update
    "no_terms": ("let the algorithm's gradient term in 0 times in a step", {}),
    "late_terms": (UNLIKE, {}),
    "no_decay": (UNLIKE, {"weight_decay": 1e-4}),
    "trains_a": ("in training it changed 14 frozen tensors", FROZEN_A),
    "trains_the_base": ("it changes the base model's weights", {}),
    "frees_the_base": ("in training it made the base model's weights trainable", {}),
    "trains_a_copy": ("in training it put other tensors in the place of the adapter's", {}),
    "nan_loss": ("its loss in training is not finite", {}),
    "nan_weights": ("its update is not that of Fedloom's own trainer", {}),
    "raises": ("training ended in ValueError; see the agent's log", {}),
    "raises_on_load": ("loading the base model ended in RuntimeError; see the agent's log", {}),
    "exits": ("training ended in SystemExit; see the agent's log", {}),
    "exits_at_import": ("is installed but cannot be used: loading it ended in SystemExit", {}),
    "no_module": ("is installed but cannot be used: loading it ended in ModuleNotFoundError", {}),
    "no_stack": ("is installed but cannot be used: its module has no Stack", {}),
    "no_derived_stack": ("its Stack is not derived from agent.train.stack.base.Stack", {}),
    "unfinished": ("its Stack has no attach, evaluate, train", {}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_trainer_is_refused_in_prepare(refusal: Callable[..., TaskFailed], name: str) -> None:
    says, job = REFUSED[name]
    error = refusal(name, **job)
    assert error.failure.kind is FailureKind.TRAINER
    assert says in error.failure.message
    assert "Smith" not in error.failure.message + error.private


@pytest.mark.parametrize("name", ["late_terms", "no_clipping", "no_decay"])
def test_no_part_of_a_step_hides_another_one(refusal: Callable[..., TaskFailed], name: str) -> None:
    """With SGD all parts of a step add up to the update."""
    job = {"optimizer": "sgd", "weight_decay": 1e-4, "max_grad_norm": 100.0}
    assert UNLIKE in refusal(name, **job).failure.message


def test_what_a_trainer_cannot_do_it_says_itself(refusal: Callable[..., TaskFailed]) -> None:
    message = "the trainer loop of this agent cannot be used: it trains the kind sft only"
    assert refusal("loop", training_kind="dpo", kind_params={"beta": 0.1}).failure.message == message


@pytest.mark.usefixtures("installed")
def test_a_refusal_is_not_kept_and_the_base_is_loaded_anew_after_it(lab: Lab) -> None:
    for _ in range(2):
        with pytest.raises(TaskFailed, match="it changes the base model's weights"):
            lab.run(lab.work(lab.prepare_job(), compute=with_trainer("trains_the_base")))
        assert lab.worker.warm.models._base is None


@pytest.mark.usefixtures("installed")
def test_each_training_is_checked_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer that passed its trial, and no longer does what it did."""
    adapter = lab.adapter_0(NO_DROPOUT)
    compute = with_trainer("loop")
    train(lab, adapter, job={"lora": NO_DROPOUT}, compute=compute)
    made = stack.find("loop")
    monkeypatch.setattr(made, "_stack", stack.PLUGINS.module("half_of_the_steps").Stack())
    with pytest.raises(
        TaskFailed, match="the trainer loop of this agent cannot be used: in training it reported 1 of 3"
    ):
        train(lab, adapter, job={"lora": NO_DROPOUT}, compute=compute)


@pytest.mark.usefixtures("installed")
def test_a_trainer_without_checkpoints_says_that_it_starts_over(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    adapter = lab.adapter_0(NO_DROPOUT)
    compute = with_trainer("loop", checkpoint_every=2)
    with caplog.at_level(logging.WARNING, "agent.train"):
        train(lab, adapter, job={"lora": NO_DROPOUT}, compute=compute)
    assert "keeps no checkpoints: an interrupted training starts over" in caplog.text
