"""Runs a simulation in a folder: a coordinator, its clients, and a campaign that a second run continues.

simulation.json   what is simulated
simulation.lock   locked while a process runs it
coordinator/      the coordinator's data folder, as `fedloom coordinator serve` makes it
clients/NAME/     a client's home, with its rows in rows.jsonl
clients/cache/    the clients' shared cache
simulation.log    log of the coordinator and the clients
adapter/          the final adapter, or the best one, once the campaign is completed
metrics.csv       the campaign's metrics
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

from agent.data.checks.report import Problem
from coordinator import main as coordinator
from fedloom.client import Client
from fedloom.coordinator_settings import coordinator_settings
from fedloom.errors import SimulationError
from fedloom.exporting.csv_table import write_csv
from fedloom.exporting.export import METRIC_COLUMNS, metric_rows
from fedloom.run_folder import run_folder
from fedloom.simulation.clients import Background, ClientNameFilter, Clients
from fedloom.simulation.simulation import Partition, Simulation
from shared.states import CampaignState, TaskKind
from shared.text.log_lines import LineFormatter
from shared.wire.adapters import AdapterView
from shared.wire.campaigns import CampaignDetail

ADAPTER_FOLDER = "adapter"
METRICS_FILE = "metrics.csv"
LOG_FILE = "simulation.log"

_log_file: ContextVar[Path | None] = ContextVar("log_file", default=None)
"""Log file of the simulation that the current thread works for."""


class Run:
    """A running simulation. client: the client of its coordinator. notices: on the files, as in ``Partition``."""

    def __init__(
        self, folder: Path, client: Client, campaign_id: str, notices: list[Problem], work: Background | None
    ) -> None:
        self.folder = folder
        self.client = client
        self.campaign_id = campaign_id
        self.notices = notices
        self._work = work

    def campaign(self) -> CampaignDetail:
        """The campaign's current state. Raises the error that ended the clients, if any."""
        if self._work is not None:
            self._work.check()
        return self.client.campaign(self.campaign_id)

    def fraction_done(self, campaign: CampaignDetail) -> float:
        """Fraction of the training that is done, from 0 to 1: closed rounds, and ended tasks of the open round."""
        tasks = self.client.tasks(campaign.id, round=campaign.rounds_closed + 1)
        ended = [task.state.is_final for task in tasks if task.kind == TaskKind.TRAIN]
        part = sum(ended) / len(ended) if ended else 0.0
        return min(1.0, (campaign.rounds_closed + part) / campaign.rounds)

    def write_results(self, which: Literal["final", "best"] = "final") -> AdapterView:
        """Write the completed campaign's adapter and metrics, and return the adapter.

        Raises OSError, and NoSuchAdapter if there is no best one, as nothing was evaluated.
        """
        with (self.folder / METRICS_FILE).open("w", encoding="utf-8", newline="") as file:
            write_csv(file, METRIC_COLUMNS, metric_rows(self.client, self.campaign_id))
        return self.client.pull_adapter(self.campaign_id, which, self.folder / ADAPTER_FOLDER, force=True)


@contextmanager
def running(simulation: Simulation, folder: Path, *, force: bool = False) -> Iterator[Run]:
    """Run a simulation for the duration of the block. It continues an earlier run in *folder*; *force* starts over.

    Leaving the block gives back the clients' open tasks. Raises SimulationError if the folder is in use or holds
    something else, PartitionError, BadEnvironment, TaskFailed if data cannot be read, and OSError.
    """
    partition = simulation.partition()
    with ExitStack() as stack:
        held = stack.enter_context(run_folder(folder, "simulation", SimulationError))
        state = held.begin(simulation.facts(), force=force, is_set_up=lambda known: "campaign_id" in known)
        stack.enter_context(_logging(folder / LOG_FILE))
        # database_url=None: the environment may name the database of a real coordinator
        settings = coordinator_settings(data_dir=folder / "coordinator", database_url=None)
        coordinator.prepare(settings, first_key=False)
        key = coordinator.new_key(settings)
        url = stack.enter_context(coordinator.serving(settings))
        client = stack.enter_context(Client(url, key))
        clients = Clients(
            folder / "clients", partition.names, simulation.settings_of_clients, simulation.spec.data.name
        )
        if "campaign_id" not in state:
            _set_up(partition, clients, client, simulation.spec.selection.labels)
            state["campaign_id"] = client.create_campaign(simulation.spec_without_deadlines).id
            held.write(state)
        campaign = client.campaign(state["campaign_id"])
        if campaign.state == CampaignState.PAUSED:
            client.resume(campaign.id)
        work = None if campaign.state.is_final else stack.enter_context(clients.running(url))
        yield Run(folder, client, campaign.id, partition.notices, work)


def _set_up(partition: Partition, clients: Clients, client: Client, labels: Mapping[str, str]) -> None:
    for number, name in enumerate(clients.names):
        clients.write_rows(name, partition.rows_of(number))
    clients.enroll(client.url, {name: client.create_token(labels).token for name in clients.names})


@contextmanager
def _logging(path: Path) -> Iterator[None]:
    """Log to *path* only. Records of other simulations in this process go to their own logs."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.addFilter(ClientNameFilter())
    handler.addFilter(lambda _: _log_file.get() == path)
    token = _log_file.set(path)
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)-7s %(client)s %(message)s"))
    for noisy in ("alembic", "asyncio", "httpx", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield
    finally:
        _log_file.reset(token)
        root.removeHandler(handler)
        handler.close()
