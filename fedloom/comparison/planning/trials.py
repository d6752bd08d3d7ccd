"""The trials of a comparison: the campaign, rows and folder of each."""

from pathlib import Path
from typing import Any

from agent.configuration.settings import AgentSettings
from agent.data.source import DataSource
from fedloom.comparison.planning.fields import value_of
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import Method, MethodKind
from fedloom.comparison.running.trial import Trial
from fedloom.comparison.spec import ComparisonSpec
from fedloom.simulation.clients import write_records
from fedloom.simulation.partition_plan import PartitionKind, PartitionPlan
from fedloom.simulation.simulation import Simulation
from shared.campaign.spec import CampaignSpec
from shared.digest import sha256_file


class Trials:
    """Makes trials from a campaign, the settings of its clients, and a partition."""

    def __init__(self, spec: ComparisonSpec, campaign: CampaignSpec, settings: AgentSettings, folder: Path) -> None:
        self._spec = spec
        self._campaign = campaign
        self._settings = settings
        self._folder = folder
        self._rows: dict[int, dict[int | None, Path]] = {}
        self._own = {name: value_of(campaign, name) for name in spec.grid.fields}

    def source(self) -> DataSource:
        """The data that is split among the clients. Raises SimulationError if the campaign cannot be simulated."""
        return self._simulation(self._campaign, self._spec.clients, seed=0).source

    def facts(self) -> dict[str, Any]:
        """What makes a comparison the same. Algorithms, seeds and grid may grow: what is done is kept."""
        facts = self._simulation(self._campaign, self._spec.clients, seed=0).facts()
        files = {"validation": self._spec.validation, "test": self._spec.test}
        facts |= {split: sha256_file(path) if path is not None else None for split, path in files.items()}
        del facts["seed"]
        facts["score"] = self._spec.score.model_dump(mode="json")
        return facts

    def share_out(self, seed: int) -> None:
        """Write each client's rows of the partition with this seed to a file. Raises PartitionError and OSError."""
        folder = self._folder / "data" / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        partition = self._simulation(self._campaign, self._spec.clients, seed).partition()
        files: dict[int | None, Path] = {}
        for number, name in enumerate(partition.names):
            files[number] = folder / f"{name}.jsonl"
            write_records(files[number], partition.rows_of(number))
        self._rows[seed] = files

    def trial(self, method: Method, hyperparameters: Hyperparameters, seed: int) -> Trial:
        """The trial of a method, once the rows of its seed are shared out."""
        campaign = method.campaign(self._campaign, hyperparameters, seed, self._spec.clients)
        simulation = None
        if campaign is not None:
            n_clients = self._spec.clients if method.kind is MethodKind.ALGORITHM else 1
            simulation = self._simulation(campaign, n_clients, seed, self._rows[seed].get(method.client))
        # a value that is the campaign's own names no other folder: what was trained before it was listed is kept
        values = hyperparameters.without(self._own).folder_name
        folder = self._folder / "runs" / f"seed-{seed}" / f"{method.folder_name}-{values}"
        return Trial(method, hyperparameters, seed, folder, simulation)

    def _simulation(self, campaign: CampaignSpec, n_clients: int, seed: int, path: Path | None = None) -> Simulation:
        """A simulation of the comparison's partition, or of one client. path: the rows; None for all rows."""
        plan = self._spec.partition.plan() if n_clients > 1 else PartitionPlan(PartitionKind.IID)
        settings = self._settings
        if path is not None:
            source = settings.data[campaign.data.name].at(path)
            settings = settings.model_copy(update={"data": {campaign.data.name: source}})
        return Simulation(campaign, settings, n_clients, plan, seed)
