"""What is simulated: a campaign, the settings of its clients, and how the rows are shared out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.data.own_template import OwnTemplate, template_of
from agent.data.records import read_records
from agent.data.tables import data_digest
from agent.settings import AgentSettings, DataSource
from fedloom.errors import SimulationError
from fedloom.simulation.clients import client_names
from fedloom.simulation.partition import assign, values_of
from fedloom.simulation.partition_plan import PartitionPlan
from shared.campaign import CampaignSpec, DeadlineSection

_FOREVER_S = 10.0 * 365 * 86400


@dataclass(frozen=True)
class Partition:
    """Who got what. assignment: for each client the indices of its records, ascending; values: for each record what
    stands in the partition's column, where it has one."""

    names: list[str]
    records: list[Mapping[str, Any]]
    assignment: list[NDArray[np.int64]]
    values: list[str] | None

    def rows_of(self, client: int) -> list[Mapping[str, Any]]:
        """A client's records in the order of the file."""
        return [self.records[index] for index in self.assignment[client]]


@dataclass(frozen=True)
class Simulation:
    """A campaign with so many clients on one machine. settings: those of every client, and the data to share out.

    Raises SimulationError for a campaign that these clients cannot begin.
    """

    spec: CampaignSpec
    settings: AgentSettings
    n_clients: int
    plan: PartitionPlan
    seed: int

    def __post_init__(self) -> None:
        if self.spec.start_from is not None:
            raise SimulationError(
                f"the campaign starts from {self.spec.start_from}, which only the coordinator that made it has, and "
                "a simulation has one of its own; leave start_from out"
            )
        if self.spec.data.name not in self.settings.data:
            raise SimulationError(
                f"the campaign trains on data named {self.spec.data.name}, which the settings do not have; "
                f"add a table [data.{self.spec.data.name}] with its path to agent.toml"
            )
        if self.n_clients < (minimum := self.spec.selection.minimum):
            raise SimulationError(
                f"the campaign's selection.minimum is {minimum}, and there are only {self.n_clients} clients"
            )

    @property
    def source(self) -> DataSource:
        """The data that is shared out."""
        return self.settings.data[self.spec.data.name]

    @property
    def spec_without_deadlines(self) -> CampaignSpec:
        """The campaign without deadlines: simulated clients take turns, so that waiting is no sign of slowness."""
        return self.spec.model_copy(update={"deadline": DeadlineSection(prepare_s=_FOREVER_S, round_s=_FOREVER_S)})

    def partition(self) -> Partition:
        """Share the rows out. Raises PartitionError, and TaskFailed for a file that cannot be read."""
        found = list(read_records(self.source))
        values = values_of(found, self.plan.by) if self.plan.by is not None else None
        assignment = assign(self.plan, n_rows=len(found), n_clients=self.n_clients, seed=self.seed, values=values)
        return Partition(client_names(self.n_clients), [record for _, record in found], assignment, values)

    def facts(self) -> dict[str, Any]:
        """What makes a simulation the same, as JSON: the campaign, the partition, the data, and how it is read.

        Raises OSError, and TaskFailed where the owner's template cannot be read.
        """
        source = self.source
        form = template_of(source, self.spec.data.template)
        return {
            "clients": self.n_clients,
            "partition": str(self.plan),
            "seed": self.seed,
            "data": data_digest(source),
            "held out": data_digest(source.held_out_source) if source.held_out_source else source.held_out,
            "columns": [source.input, source.unique, *source.columns(self.spec.kind).values()],
            "reading": [source.encoding, source.separator],
            "template": form.text if isinstance(form, OwnTemplate) else None,
            "campaign": self.spec.model_dump(mode="json"),
        }
