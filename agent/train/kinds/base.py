"""The agent half of a kind of training.

Each kind is one module with the class ``Training``; the shared half, with the kind's section, its columns and its
metrics, is found by the same name in ``shared.kinds``. Most kinds are one of TRL's trainers with
``FederatedTrainerMixin`` before it, and a collator. ``sft`` and ``dpo`` are examples.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from agent.train.base.attached import AttachedAdapter
from agent.train.data.tokens import Samples
from agent.train.trainer.arguments import TrainerSettings
from agent.train.trainer.federated import FederatedTrainerMixin
from agent.train.trainer.scoring import Scoring
from shared.kinds import KindSection

S = TypeVar("S", bound=KindSection)


class KindTraining(ABC, Generic[S]):
    """Trains and evaluates rows of one kind. One instance serves one task."""

    needs_reference: ClassVar[bool] = False
    """Whether examples and evaluation need the log-probabilities of completions under the reference model."""

    def __init__(self, section: S) -> None:
        self.section = section

    @abstractmethod
    def examples(
        self,
        samples: Samples,
        indices: NDArray[np.int64],
        reference: NDArray[np.float64] | None,
    ) -> list[dict[str, Any]]:
        """Return the round's k examples in training order, as the trainer's collator takes them.

        Args:
            samples: all training rows.
            indices: the rows of the round, (k,).
            reference: Σ log p of their completions under the reference model, in nats, (k, completions); None unless
                ``needs_reference``.
        """

    @abstractmethod
    def trainer(
        self,
        attached: AttachedAdapter,
        examples: Sequence[Mapping[str, Any]],
        tokenizer: Any,
        settings: TrainerSettings,
    ) -> FederatedTrainerMixin:
        """Build a trainer that passes once over the examples, in their order."""

    @abstractmethod
    def evaluate(
        self, model: Any, samples: Samples, reference: NDArray[np.float64] | None, scoring: Scoring
    ) -> dict[str, float]:
        """Return the kind's metrics of origin ``evaluation``, by name.

        Args:
            model: a PEFT model with the global adapter.
            samples: n held-out rows.
            reference: as in ``examples``, (n, completions).
            scoring: how rows go through the model.
        """
