"""Runs the five campaigns of the quickstart: two at a time, each on one CPU thread."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from make_data import write_rows

from agent.configuration.settings import AgentSettings
from agent.orders.on_base.model import LoraFile
from fedloom.adapters.folder import WEIGHTS_FILE
from fedloom.errors import SimulationError
from fedloom.simulation.partition_plan import PartitionKind, PartitionPlan
from fedloom.simulation.run import Run, running
from fedloom.simulation.simulation import Simulation
from shared.campaign.spec import CampaignSpec

AT_ONCE = 2


@dataclass
class Entry:
    """One campaign over the records of some owners."""

    title: str
    owners: Sequence[str]
    federated: bool = False
    """Whether each owner is a client; otherwise one client has all records."""
    state: str = "waiting"
    rounds_closed: int = 0
    held_out_loss: dict[int, float] = field(default_factory=dict)
    """Adapter number to loss."""
    adapters: dict[int, LoraFile] = field(default_factory=dict)
    """Adapter number to weights; empty until the campaign is completed."""

    @property
    def name(self) -> str:
        return self.title.replace(" ", "-")

    def simulation(
        self, spec: CampaignSpec, settings: AgentSettings, records: Sequence[dict[str, str]], folder: Path
    ) -> Simulation:
        """Return a simulation of the quickstart's campaign with this entry's records."""
        n_clients = len(self.owners) if self.federated else 1
        path = folder / f"{self.name}.jsonl"
        write_rows(path, (row for row in records if row["owner"] in self.owners))
        source = settings.data[spec.data.name].model_copy(update={"path": path})
        return Simulation(
            spec.model_copy(update={"selection": spec.selection.model_copy(update={"minimum": n_clients})}),
            settings.model_copy(update={"data": {spec.data.name: source}}),
            n_clients,
            PartitionPlan(PartitionKind.DOMAIN, by="owner") if self.federated else PartitionPlan(PartitionKind.IID),
            seed=0,
        )


def compete(
    entries: Sequence[Entry],
    spec: CampaignSpec,
    settings: AgentSettings,
    records: Sequence[dict[str, str]],
    folder: Path,
) -> Iterator[None]:
    """Run all entries in order, AT_ONCE of them at a time. Yields after each poll until all are completed.

    Raises SimulationError if a campaign cannot continue.
    """
    waiting = list(entries)
    with ExitStack() as everything:
        active: dict[str, tuple[Entry, Run, ExitStack]] = {}
        while waiting or active:
            while waiting and len(active) < AT_ONCE:
                entry = waiting.pop(0)
                stack = everything.enter_context(ExitStack())
                simulation = entry.simulation(spec, settings, records, folder)
                run = stack.enter_context(running(simulation, folder / entry.name))
                active[entry.name] = (entry, run, stack)
            for entry, run, stack in list(active.values()):
                if _poll(entry, run, spec):
                    stack.close()
                    del active[entry.name]
            yield


def _poll(entry: Entry, run: Run, spec: CampaignSpec) -> bool:
    """Update an entry's progress. Returns whether it is completed and its adapters are pulled."""
    campaign = run.campaign()
    entry.state, entry.rounds_closed = campaign.state, campaign.rounds_closed
    entry.held_out_loss = {
        metric.round: metric.value
        for metric in run.client.metrics(campaign.id, "held_out_loss")
        if metric.client_number is None
    }
    if not campaign.state.is_at_rest:
        return False
    if campaign.final_adapter is None:
        message = f"{entry.title}: the campaign is {campaign.state}, {campaign.reason}; see {run.folder}"
        raise SimulationError(message)
    run.write_results()
    for adapter in run.client.adapters(campaign.id):
        adapter_folder = run.folder / "adapters" / str(adapter.number)
        run.client.pull_adapter(campaign.id, adapter.number, adapter_folder)
        entry.adapters[adapter.number] = LoraFile(weights=adapter_folder / WEIGHTS_FILE, lora=spec.lora)
    return True
