"""The five campaigns of the quickstart, and their run: two at a time, each on one CPU thread."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from make_data import write_rows

from agent.child import LoraFile
from agent.settings import AgentSettings
from fedloom.adapters.folder import WEIGHTS_FILE
from fedloom.errors import SimulationError
from fedloom.simulation.partition_plan import PartitionKind, PartitionPlan
from fedloom.simulation.run import Run, running
from fedloom.simulation.simulation import Simulation
from shared.campaign import CampaignSpec

AT_ONCE = 2


@dataclass
class Entry:
    """One campaign: which owners' records it sees, and whether each owner is a client or all are one.

    state, rounds_closed, held_out_loss (by adapter number): how far it is. adapters: the weights of its global
    adapters, by number, once it is completed.
    """

    title: str
    owners: Sequence[str]
    federated: bool = False
    state: str = "waiting"
    rounds_closed: int = 0
    held_out_loss: dict[int, float] = field(default_factory=dict)
    adapters: dict[int, LoraFile] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.title.replace(" ", "-")

    def simulation(
        self, spec: CampaignSpec, settings: AgentSettings, records: Sequence[dict[str, str]], folder: Path
    ) -> Simulation:
        """The quickstart's own campaign and settings, but for the records."""
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
    """Run all entries, in their order, AT_ONCE of them at a time; yields after each look, until all are completed.

    Raises SimulationError where a campaign cannot go on.
    """
    waiting = list(entries)
    with ExitStack() as everything:
        at_work: dict[str, tuple[Entry, Run, ExitStack]] = {}
        while waiting or at_work:
            while waiting and len(at_work) < AT_ONCE:
                entry = waiting.pop(0)
                stack = everything.enter_context(ExitStack())
                simulation = entry.simulation(spec, settings, records, folder)
                run = stack.enter_context(running(simulation, folder / entry.name))
                at_work[entry.name] = (entry, run, stack)
            for entry, run, stack in list(at_work.values()):
                if _look(entry, run, spec):
                    stack.close()
                    del at_work[entry.name]
            yield


def _look(entry: Entry, run: Run, spec: CampaignSpec) -> bool:
    """Note how far an entry is; whether it is completed, and its adapters are here."""
    campaign = run.campaign()
    entry.state, entry.rounds_closed = campaign.state, campaign.rounds_closed
    entry.held_out_loss = {
        one.round: one.value for one in run.client.metrics(campaign.id, "held_out_loss") if one.client_number is None
    }
    if not campaign.state.is_at_rest:
        return False
    if campaign.final_adapter is None:
        message = f"{entry.title}: the campaign is {campaign.state}, {campaign.reason}; see {run.folder}"
        raise SimulationError(message)
    run.write_results()
    for one in run.client.adapters(campaign.id):
        adapter_folder = run.folder / "adapters" / str(one.number)
        run.client.pull_adapter(campaign.id, one.number, adapter_folder)
        entry.adapters[one.number] = LoraFile(weights=adapter_folder / WEIGHTS_FILE, lora=spec.lora)
    return True
