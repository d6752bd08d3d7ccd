"""Tries a trainer on a few rows, so that what it makes of them can be compared with what another one does."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from agent.errors import TaskFailed
from agent.train.base.model import Base
from agent.train.data.tokens import Samples
from agent.train.kinds.base import KindTraining
from agent.train.stack.base import Stack, Training
from agent.train.stack.training import make_examples, train_with
from agent.train.suitability.measure import randomise_zero_factors
from agent.train.suitability.probe import probe_rows
from agent.train.suitability.trainer_results import Results
from agent.train.suitability.trial_client import SHARE, TrialClient
from agent.train.trainer.arguments import TrainerSettings, micro_batch_of
from agent.train.trainer.client_steps import ClientSteps
from agent.train.trainer.scoring import Scoring
from shared.adapters.files import Array
from shared.algorithms import AlgorithmParams, ClientHalf
from shared.campaign.spec import LoraSection, TrainingSection
from shared.wire.tasks.leases import FailureKind

_STEPS = 2
_MOST_VALUES = 4096
"""Values of each tensor that are compared."""
_USUAL_VALUE = 0.05
"""The size of an adapter's values in a trial."""
_RATES = {"adamw": 1e-3, "sgd": 0.02}
"""Learning rates at which an update is far above the rounding of its weights."""


@dataclass(frozen=True)
class Trial:
    """What a trainer is tried with.

    Attributes:
        training: the agent half of the campaign's kind.
        kind: its name.
        lora: the campaign's adapter.
        section: the campaign's training.
        samples: the owner's rows.
        tokenizer: the base model's.
        micro_batch: the most rows that go through the model at once.
        folder: a temporary one.
    """

    training: KindTraining[Any]
    kind: str
    lora: LoraSection
    section: TrainingSection
    samples: Samples
    tokenizer: Any
    micro_batch: int
    folder: str

    def results(self, stack: Stack, base: Base) -> Results:
        """What *stack* makes of it on the base model that it loaded. Raises TaskFailed (trainer, crash)."""
        before = _checksums(base.language_model)
        lora = self.lora.model_copy(update={"dropout": 0.0})  # what is drawn at random has no equal
        probes = probe_rows(self.samples.completions)
        with base.adapter(lora, seed=0) as attached:
            attached.draw(seed=0)
            randomise_zero_factors(attached)
            attached.model.eval()
            log_probs = stack.evaluate(attached.model, probes, self._scoring(base))
            n_values = sum(each.numel() for each in attached.trained_parameters.values())
        plain, losses = self._update(stack, base, lora, self.section, ClientHalf(AlgorithmParams(), {}))
        strained = self.section.model_copy(
            update={
                "max_grad_norm": None if self.section.max_grad_norm is None else SHARE * math.sqrt(n_values),
                "weight_decay": SHARE / _USUAL_VALUE if self.section.weight_decay else 0.0,
            }
        )
        corrected, _ = self._update(stack, base, lora, strained, TrialClient(AlgorithmParams(), {}))
        if _checksums(base.language_model) != before:
            raise stack.refused("it changes the base model's weights, which every round needs as they are")
        return Results(log_probs, losses, plain, corrected)

    def _scoring(self, base: Base) -> Scoring:
        return Scoring(self.micro_batch, base.autocast_dtype, lambda _: None)

    def _update(
        self, stack: Stack, base: Base, lora: LoraSection, section: TrainingSection, client: ClientHalf[Any]
    ) -> tuple[dict[str, Array], NDArray[np.float64]]:
        """The update of a short training, some values of each tensor, and the loss of each step."""
        micro_batch = micro_batch_of(section.batch_size, self.micro_batch)
        batch_size = min(section.batch_size, 2 * micro_batch)
        rate = _RATES[section.optimizer]
        shortest = np.argsort(self.samples.lengths, kind="stable")
        indices = np.resize(shortest, _STEPS * batch_size)  # (k,)
        with base.adapter(lora, seed=0) as attached, _without_dropout(base.language_model):
            attached.draw(seed=0)
            randomise_zero_factors(attached)
            reference = None
            if self.training.needs_reference:
                completions = self.samples.at(indices).completions
                attached.model.eval()
                log_probs = stack.evaluate(attached.model, completions, self._scoring(base))
                reference = log_probs.reshape(len(indices), -1)
            start = attached.tensors()
            steps = ClientSteps(client, attached.trained_parameters)
            settings = TrainerSettings(
                folder=self.folder,
                training=section.model_copy(
                    update={"batch_size": batch_size, "warmup_steps": 1, "learning_rate": rate}
                ),
                learning_rate=rate,
                micro_batch=micro_batch,
                seed=0,
                autocast_dtype=base.autocast_dtype,
            )
            training = Training(
                kind=self.kind,
                kind_training=self.training,
                language_model=base.language_model,
                attached=attached,
                examples=make_examples(self.training, self.kind, self.samples, indices, reference),
                tokenizer=self.tokenizer,
                settings=settings,
                client_steps=steps,
            )
            _train(stack, training)
            end = attached.tensors()
            update = {name: _some((end[name] - start[name]).numpy()) for name in attached.trained_parameters}
        return update, np.array(steps.history.losses)


def _train(stack: Stack, training: Training) -> None:
    """Have *stack* train. Raises TaskFailed (trainer) also if the loss is not finite: these rates are not to blame."""
    try:
        train_with(stack, training)
    except TaskFailed as error:
        if error.failure.kind is FailureKind.CRASH:
            raise stack.refused("its loss in training is not finite") from error
        raise


def _some(values: Array) -> Array:
    """Evenly spread values of a tensor."""
    flat = values.reshape(-1)
    return flat[:: -(-len(flat) // _MOST_VALUES)].copy()


@contextmanager
def _without_dropout(model: Any) -> Iterator[None]:
    """Set all probabilities of dropout to 0 inside the block."""
    before = [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, float) and ("dropout" in name or (name == "p" and isinstance(module, nn.Dropout)))
    ]
    try:
        for module, name, _ in before:
            setattr(module, name, 0.0)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _checksums(model: Any) -> list[int]:
    """A sum over the bytes of each of the model's tensors."""
    return [int(each.detach().reshape(-1).view(torch.uint8).sum(dtype=torch.int64)) for each in model.parameters()]
