"""Trainers that are wrong in one thing each, made of the example, and one that is right.

``Of.NAME`` is what an entry point names: it has a ``Stack``, as a module has.
"""

import math
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from fedloom_loop import Stack as Loop
from peft import LoraConfig, get_peft_model
from torch import nn

from agent.train.stack import trl
from agent.train.stack.base import Stack


class ForgetsALayer(Loop):
    def attach(self, model: Any, lora: Any, targets: Any) -> Any:
        return super().attach(model, lora, targets[:-1])


class HalfPrecision(Loop):
    def attach(self, model: Any, lora: Any, targets: Any) -> Any:
        adapted = super().attach(model, lora, targets)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.bfloat16()
        return adapted


class OtherScale(Loop):
    def attach(self, model: Any, lora: Any, targets: Any) -> Any:
        return super().attach(model, lora.model_copy(update={"alpha": 2 * lora.alpha}), targets)


class OtherModules(Loop):
    def attach(self, model: Any, lora: Any, targets: Any) -> Any:
        config = LoraConfig(r=lora.rank, target_modules=[*targets, "lm_head"], task_type="CAUSAL_LM")
        return get_peft_model(model, config)


class NoPeft(Loop):
    def attach(self, model: Any, lora: Any, targets: Any) -> Any:
        return model


class _Patched(Loop):
    """Trains as the example, with something else in the place of what the training lends."""

    def lent(self, training: Any) -> Any:
        raise NotImplementedError

    def train(self, training: Any) -> None:
        super().train(self.lent(training))


class Like:
    """What something is, but for some changes."""

    def __init__(self, original: Any, **changes: Any) -> None:
        self._original = original
        vars(self).update(changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class NoTerms(_Patched):
    def lent(self, training: Any) -> Any:
        return Like(training, client_steps=Like(training.client_steps, add_gradient_terms=lambda: None))


class LateTerms(_Patched):
    """Adds the terms when the optimizer has stepped, so that they are lost."""

    def lent(self, training: Any) -> Any:
        steps = training.client_steps

        def stepped(**facts: Any) -> None:
            steps.add_gradient_terms()
            steps.stepped(**facts)

        return Like(training, client_steps=Like(steps, add_gradient_terms=lambda: None, stepped=stepped))


class WrongLoss(Loop):
    """The mean over all of a step's tokens, those of the prompt among them."""

    def _backward(self, model: Any, examples: Any, micro_batch: int, dtype: Any) -> float:
        whole = [example | {"labels": example["input_ids"]} for example in examples]
        return super()._backward(model, whole, micro_batch, dtype)


class WrongScores(Loop):
    def evaluate(self, model: Any, rows: Any, scoring: Any) -> Any:
        return super().evaluate(model, rows, scoring) * 1.01


class WrongShape(Loop):
    def evaluate(self, model: Any, rows: Any, scoring: Any) -> Any:
        return super().evaluate(model, rows, scoring)[:, None]


class HalfOfTheSteps(_Patched):
    def lent(self, training: Any) -> Any:
        steps = list(training.steps())
        return Like(training, steps=lambda: steps[: len(steps) // 2])


class SaysItStepped(Loop):
    """Leaves out the last step's optimizer, and reports all of them."""

    def train(self, training: Any) -> None:
        super().train(HalfOfTheSteps().lent(training))
        for examples in list(training.steps())[1:]:
            loss = self._backward(training.attached.model, examples, training.settings.micro_batch, None)
            training.client_steps.add_gradient_terms()
            training.client_steps.stepped(loss=loss, tokens=1, learning_rate=training.learning_rate)


class SameRowsAgain(_Patched):
    """Trains on the first step's rows in each step."""

    def lent(self, training: Any) -> Any:
        size = training.settings.training.batch_size
        return Like(training, steps=lambda: [training.examples[:size]] * (len(training.examples) // size))


class OtherOrder(_Patched):
    def lent(self, training: Any) -> Any:
        return Like(training, steps=lambda: list(training.steps())[::-1])


class NoWarmup(_Patched):
    def lent(self, training: Any) -> Any:
        return Like(training, learning_rate=training.settings.learning_rate)


class _OtherSection(_Patched):
    changes: ClassVar[dict[str, Any]]

    def lent(self, training: Any) -> Any:
        section = training.settings.training.model_copy(update=self.changes)
        return Like(training, settings=Like(training.settings, training=section))


class NoClipping(_OtherSection):
    changes: ClassVar = {"max_grad_norm": None}


class NoDecay(_OtherSection):
    changes: ClassVar = {"weight_decay": 0.0}


class TrainsA(Loop):
    """Trains what the campaign freezes."""

    def train(self, training: Any) -> None:
        super().train(training)
        for parameter in training.attached.parameters.values():
            if not parameter.requires_grad:
                parameter.data += 1e-4


class TrainsTheBase(Loop):
    def train(self, training: Any) -> None:
        super().train(training)
        next(training.language_model.parameters()).data += 1e-4


class FreesTheBase(Loop):
    def train(self, training: Any) -> None:
        training.attached.model.requires_grad_(True)
        super().train(training)


class TrainsACopy(Loop):
    """Puts another tensor in the place of one of the adapter's, as a library may that compiles or casts a model."""

    def train(self, training: Any) -> None:
        for module in training.attached.model.modules():
            if hasattr(module, "lora_B"):
                module.lora_B["default"].weight = nn.Parameter(module.lora_B["default"].weight.detach().clone())
        super().train(training)


class NanLoss(Loop):
    def _losses(self, model: Any, examples: Any, dtype: Any) -> Any:
        return super()._losses(model, examples, dtype) * (math.nan if model.training else 1.0)


class NanWeights(Loop):
    def train(self, training: Any) -> None:
        super().train(training)
        for parameter in training.attached.trained_parameters.values():
            parameter.data.view(-1)[0] = math.nan


class Raises(Loop):
    def train(self, training: Any) -> None:
        raise ValueError("the row of Mrs. Smith")


class RaisesOnLoad(Loop):
    def load(self, source: Any) -> Any:
        raise RuntimeError(f"{source.folder} is not for me")


class Exits(Loop):
    def train(self, training: Any) -> None:
        raise SystemExit(3)


class NotDerived:
    pass


class Unfinished(Stack):
    def load(self, source: Any) -> Any:
        return torch.nn.Linear(1, 1)


class Patched(trl.Stack):
    """Fedloom's own trainer, in which somebody has changed a thing that does not matter."""

    def train(self, training: Any) -> None:
        torch.manual_seed(1)
        super().train(training)


class Of:
    """A namespace with a ``Stack`` for each class."""


for _made in [each for each in list(globals().values()) if isinstance(each, type) and each.__module__ == __name__]:
    setattr(Of, _made.__name__, SimpleNamespace(Stack=_made))
