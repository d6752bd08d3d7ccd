"""Who takes part in a comparison, and the rates that each one tries.

Every entrant takes the same number of optimizer steps in a round. What differs is who trains on which rows:

    the base model   nobody
    an algorithm     all clients, federated
    client K alone   one client on its own rows, in as many rounds as it was drawn for in the federation
    pooled           one client with all rows: with the batches of all clients of a round in each of its steps, or with
                     as many times the steps; either way it sees as many rows as the federation
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Any

from fedloom.comparison.baselines import Baselines
from fedloom.comparison.spec import GridSection
from fedloom.simulation.clients import client_names
from shared import algorithms
from shared.campaign import AlgorithmSection, CampaignSpec, EvaluationSection, SelectionSection
from shared.client_sampling import draw_order


class EntrantKind(StrEnum):
    """What an entrant is."""

    BASE = "base"
    ALGORITHM = "algorithm"
    ALONE = "alone"
    ALONE_MEAN = "mean of alone"
    POOLED = "pooled"


@dataclass(frozen=True)
class Hyperparameters:
    """What an entrant chooses: its clients' learning rate, and parameters of its algorithm."""

    learning_rate: float
    params: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in (("lr", self.learning_rate), *self.params))

    @property
    def slug(self) -> str:
        """The same as a part of a folder's name."""
        return "-".join(f"{name}{value:g}" for name, value in (("lr", self.learning_rate), *self.params))


@dataclass(frozen=True)
class Method:
    """One row of the comparison. client: of an entrant that trains alone, its number."""

    name: str
    kind: EntrantKind
    algorithm: str = "fedavg"
    client: int | None = None
    steps_times: int = 1
    batch_times: int = 1

    def campaign(self, spec: CampaignSpec, rates: Hyperparameters, seed: int, n_clients: int) -> CampaignSpec | None:
        """The campaign that it runs; None for what is not trained: the base model, and a client that is never drawn."""
        if self.kind is EntrantKind.BASE:
            return None
        training = spec.training
        assert training.steps is not None
        low = training.min_learning_rate
        changes: dict[str, Any] = {
            "name": self.slug,
            "evaluation": EvaluationSection(every=0),  # scores are taken on the comparison's own rows
            "algorithm": AlgorithmSection(name=self.algorithm, params=dict(rates.params)),
            "training": training.model_copy(
                update={
                    "steps": training.steps * self.steps_times,
                    "batch_size": training.batch_size * self.batch_times,
                    "learning_rate": rates.learning_rate,
                    "min_learning_rate": low and low * rates.learning_rate / training.learning_rate,
                    "seed": seed,
                }
            ),
        }
        if self.kind is not EntrantKind.ALGORITHM:
            changes["selection"] = SelectionSection(minimum=1)
        if self.client is not None:
            changes["rounds"] = rounds_drawn(spec, seed, n_clients).count(self.client)
            if changes["rounds"] == 0:
                return None
        return spec.model_copy(update=changes)

    @property
    def slug(self) -> str:
        """Its name as a part of a folder's name."""
        return self.name.replace(" ", "-").replace("×", "x").replace(",", "")


def rounds_drawn(spec: CampaignSpec, seed: int, n_clients: int) -> list[int]:
    """The clients that the coordinator draws in all rounds, by number, one after the other."""
    per_round = clients_in_round(spec, n_clients)
    everyone = range(n_clients)
    return [client for r in range(1, spec.rounds + 1) for client in draw_order(seed, r, everyone)[:per_round]]


def clients_in_round(spec: CampaignSpec, n_clients: int) -> int:
    """How many clients a round draws."""
    asked = spec.selection.clients_per_round
    return n_clients if asked == "all" else min(asked, n_clients)


def entrants(names: Sequence[str], spec: CampaignSpec, n_clients: int, baselines: Baselines) -> Iterator[Method]:
    """The base model, the algorithms of these names, and the baselines, in the order of the table."""
    yield Method("base model", EntrantKind.BASE)
    for name in names:
        yield Method(name, EntrantKind.ALGORITHM, algorithm=name)
    if baselines in (Baselines.ALL, Baselines.ALONE):
        for number, client in enumerate(client_names(n_clients)):
            yield Method(f"{client} alone", EntrantKind.ALONE, client=number)
    if baselines in (Baselines.ALL, Baselines.POOLED):
        times = clients_in_round(spec, n_clients)
        yield Method(f"pooled, batch ×{times}", EntrantKind.POOLED, batch_times=times)
        yield Method(f"pooled, steps ×{times}", EntrantKind.POOLED, steps_times=times)


def rates_to_try(entrant: Method, spec: CampaignSpec, grid: GridSection) -> list[Hyperparameters]:
    """Every combination of the grid's values that this entrant has."""
    if entrant.kind is EntrantKind.BASE:
        return [Hyperparameters(spec.training.learning_rate)]
    learning_rates = grid.learning_rate or [spec.training.learning_rate]
    values = grid.params_of(entrant.algorithm, algorithms.find(entrant.algorithm).params.model_fields)
    combinations = product(learning_rates, *values.values())
    return [Hyperparameters(rate, tuple(zip(values, chosen, strict=True))) for rate, *chosen in combinations]
