"""The methods of a comparison.

With equal hyperparameters all methods take the same number of optimizer steps in a round. They differ in who trains on
which rows:

    the base model   no training
    an algorithm     all clients, federated
    client K alone   one client on its own rows, in as many rounds as the federation draws it for
    pooled           one client with all rows: either each step takes the batches of all clients of a round, or a round
                     takes that many times the steps; both see as many rows as the federation
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fedloom.comparison.baselines import Baselines
from fedloom.comparison.planning.fields import with_fields
from fedloom.comparison.planning.held_out import trial_evaluation
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.simulation.clients import client_names
from shared.campaign.sampling import draw_order
from shared.campaign.spec import (
    AlgorithmSection,
    CampaignSpec,
    SelectionSection,
    StragglersSection,
    TrainingSection,
)


class MethodKind(StrEnum):
    """What a row of the table stands for."""

    BASE = "base"
    ALGORITHM = "algorithm"
    ALONE = "alone"
    ALONE_MEAN = "mean of alone"
    POOLED = "pooled"


@dataclass(frozen=True)
class Method:
    """One row of the comparison.

    Args:
        client: Number of the client that trains alone; None for other methods.
        steps_times: Factor on the campaign's steps a round.
        batch_times: Factor on the campaign's batch size.
    """

    name: str
    kind: MethodKind
    algorithm: str = "fedavg"
    client: int | None = None
    steps_times: int = 1
    batch_times: int = 1

    def campaign(
        self, spec: CampaignSpec, hyperparameters: Hyperparameters, seed: int, n_clients: int
    ) -> CampaignSpec | None:
        """The campaign to run. None if nothing is trained: for the base model, and for a client that is never drawn.

        Raises ValidationError if the hyperparameters do not fit the campaign or each other.
        """
        if self.kind is MethodKind.BASE:
            return None
        spec = with_fields(spec, hyperparameters.values)
        training = spec.training
        assert training.steps is not None
        learning_rate = hyperparameters.learning_rate
        changes: dict[str, Any] = {
            "name": self.folder_name,
            "evaluation": trial_evaluation(spec),
            "algorithm": AlgorithmSection(name=self.algorithm, params=dict(hyperparameters.params)),
            "training": training.model_copy(
                update={
                    "steps": training.steps * self.steps_times,
                    "batch_size": training.batch_size * self.batch_times,
                    "learning_rate": learning_rate,
                    "min_learning_rate": _lowest(training, hyperparameters),
                    "seed": seed,
                }
            ),
        }
        if self.kind is not MethodKind.ALGORITHM:
            changes["selection"] = SelectionSection(minimum=1)
            changes["stragglers"] = StragglersSection()
            changes["wire"] = "float32"
        if self.client is not None:
            changes["rounds"] = clients_drawn(spec, seed, n_clients).count(self.client)
            if changes["rounds"] == 0:
                return None
        return CampaignSpec.model_validate(spec.model_copy(update=changes).model_dump(exclude_unset=True))

    @property
    def folder_name(self) -> str:
        """The name as a part of a trial's folder name."""
        return self.name.replace(" ", "-").replace("×", "x").replace(",", "")


def _lowest(training: TrainingSection, hyperparameters: Hyperparameters) -> float | None:
    """The lower end of the schedule: in proportion to the rate, unless values of it are tried too."""
    low = training.min_learning_rate
    if not low or "training.min_learning_rate" in hyperparameters.values:
        return low
    return low * hyperparameters.learning_rate / training.learning_rate


def clients_drawn(spec: CampaignSpec, seed: int, n_clients: int) -> list[int]:
    """Numbers of the clients that the coordinator draws, round after round in one list."""
    per_round = clients_per_round(spec, n_clients)
    everyone = range(n_clients)
    return [client for r in range(1, spec.rounds + 1) for client in draw_order(seed, r, everyone)[:per_round]]


def clients_per_round(spec: CampaignSpec, n_clients: int) -> int:
    """How many clients a round draws."""
    requested = spec.selection.clients_per_round
    return n_clients if requested == "all" else min(requested, n_clients)


def methods(
    algorithm_names: Sequence[str], spec: CampaignSpec, n_clients: int, baselines: Baselines
) -> Iterator[Method]:
    """The base model, the named algorithms and the baselines, in the order of the table."""
    yield Method("base model", MethodKind.BASE)
    for name in algorithm_names:
        yield Method(name, MethodKind.ALGORITHM, algorithm=name)
    if baselines in (Baselines.ALL, Baselines.ALONE):
        for number, client in enumerate(client_names(n_clients)):
            yield Method(f"{client} alone", MethodKind.ALONE, client=number)
    if baselines in (Baselines.ALL, Baselines.POOLED):
        times = clients_per_round(spec, n_clients)
        yield Method(f"pooled, batch ×{times}", MethodKind.POOLED, batch_times=times)
        yield Method(f"pooled, steps ×{times}", MethodKind.POOLED, steps_times=times)
