"""What is simulated: a campaign, the settings of its clients, and the partition of the rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.configuration.settings import AgentSettings
from agent.data.checks.notices import Occurrences
from agent.data.checks.report import Problem
from agent.data.files.records import read_records
from agent.data.files.tables import data_digest
from agent.data.own_template import OwnTemplate, template_of
from agent.data.source import DataSource
from agent.errors import TaskFailed
from fedloom.errors import SimulationError
from fedloom.simulation.clients import client_names
from fedloom.simulation.partition import assign, values_of
from fedloom.simulation.partition_plan import PartitionPlan
from shared.campaign.spec import CampaignSpec, DeadlineSection

_FOREVER_S = 10.0 * 365 * 86400
_NOT_READING = {"preset", "path", "hub", "split", "revision", "held_out", "held_out_path", "template"}
"""Settings of a source that do not say how records are read: those of its place, of the split, and of the template."""


@dataclass(frozen=True)
class Partition:
    """The records of each client.

    Args:
        names: Names of the clients.
        records: All records, in the order of the file.
        assignment: For each client the indices of its records, ascending.
        values: For each record its value in the partition's column. None if the partition uses no column.
        notices: What the form of the owner's files says against them, which the clients' copies no longer show.
    """

    names: list[str]
    records: list[Mapping[str, Any]]
    assignment: list[NDArray[np.int64]]
    values: list[str] | None
    notices: list[Problem]

    def rows_of(self, client: int) -> list[Mapping[str, Any]]:
        """The records of a client, by its number, in the order of the file."""
        return [self.records[index] for index in self.assignment[client]]


@dataclass(frozen=True)
class Simulation:
    """A campaign with *n_clients* clients on one machine.

    Args:
        settings: Settings of every client, with the data to split.
        plan: How the rows are split.
        seed: Seed of the partition; the campaign has its own.

    Raises SimulationError if the campaign cannot start with these clients.
    """

    spec: CampaignSpec
    settings: AgentSettings
    n_clients: int
    plan: PartitionPlan
    seed: int

    def __post_init__(self) -> None:
        if self.spec.start_from is not None:
            raise SimulationError(
                f"the campaign starts from {self.spec.start_from}, an adapter that only its own coordinator has; "
                "a simulation runs a new coordinator, so leave start_from out"
            )
        try:
            source = self.settings.source(self.spec.data.name)
        except TaskFailed as error:
            raise SimulationError(str(error)) from error
        if source is None:
            raise SimulationError(
                f"the campaign trains on data named {self.spec.data.name}, which agent.toml does not name; "
                f"add a table [data.{self.spec.data.name}] with its path"
            )
        if self.n_clients < (minimum := self.spec.selection.minimum):
            raise SimulationError(
                f"the campaign needs {minimum} clients (selection.minimum), and only {self.n_clients} are simulated; "
                "simulate more, or lower selection.minimum"
            )

    @property
    def source(self) -> DataSource:
        """The data that is split among the clients."""
        return self.settings.data[self.spec.data.name]

    @property
    def settings_of_clients(self) -> AgentSettings:
        """The settings, in which a base model that the campaign file names by its folder is mapped to it.

        Agents take no folder from a campaign. Here one person writes both.
        """
        model = self.spec.base.model
        if model in self.settings.models or not Path(model).is_absolute():
            return self.settings
        return self.settings.model_copy(update={"models": self.settings.models | {model: Path(model)}})

    @property
    def spec_without_deadlines(self) -> CampaignSpec:
        """The campaign without deadlines: simulated clients take turns, so a client that waits is not slow."""
        return self.spec.model_copy(update={"deadline": DeadlineSection(prepare_s=_FOREVER_S, round_s=_FOREVER_S)})

    def partition(self) -> Partition:
        """Split the rows among the clients. Raises PartitionError, and TaskFailed if a file cannot be read."""
        notices = Occurrences()
        placed = list(read_records(self.source, notices))  # records with their places in the files
        values = values_of(placed, self.plan.by) if self.plan.by is not None else None
        assignment = assign(self.plan, n_rows=len(placed), n_clients=self.n_clients, seed=self.seed, values=values)
        records = [record for _, record in placed]
        return Partition(client_names(self.n_clients), records, assignment, values, notices.problems)

    def facts(self) -> dict[str, Any]:
        """What identifies a simulation, as JSON: the campaign, the partition, the data, and how the data is read.

        Raises OSError, and TaskFailed if the owner's template cannot be read.
        """
        source = self.source
        template = template_of(source, self.spec.data.template)
        return {
            "clients": self.n_clients,
            "partition": str(self.plan),
            "seed": self.seed,
            "data": data_digest(source),
            "held out": data_digest(source.held_out_source) if source.held_out_source else source.held_out,
            "reading": source.model_dump(mode="json", exclude=_NOT_READING),
            "template": template.text if isinstance(template, OwnTemplate) else None,
            "campaign": self.spec.model_dump(mode="json"),
        }
