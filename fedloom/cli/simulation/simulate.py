"""``fedloom simulate``: a campaign with many clients on one machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.campaign.commands import read_spec
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson
from fedloom.errors import FedloomError
from fedloom.simulation.partition_plan import DEFAULT_ALPHA, PartitionKind, PartitionPlan
from shared.system.private_files import make_files_private
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedloom.simulation.simulation import Simulation
    from shared.wire.campaigns import CampaignDetail

_SETTINGS_FILE = "agent.toml"


def simulate(
    file: Annotated[Path, typer.Argument(metavar="CAMPAIGN", help="A campaign file, as for real agents.")],
    clients: Annotated[int, typer.Option(min=1, help="Number of clients to split the data among.")],
    partition: Annotated[PartitionKind, typer.Option(help="How the rows are split; see above.")] = PartitionKind.IID,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of the data with the label, key or domain.")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help=f"Dirichlet concentration: small is skewed, large is even. By default {DEFAULT_ALPHA}."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the partition; the campaign has its own.")] = 0,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="Settings of every client, with the data to split. By default agent.toml beside the campaign file."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The simulation's folder. By default simulations/NAME.")] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Write the campaign's best adapter, in place of the last one.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Delete the folder's content and start over.")] = False,
    show_partition: Annotated[
        bool, typer.Option("--show-partition", help="Only show the rows that each client would get.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a campaign with many clients on this machine: a real coordinator, real HTTP, one model in memory for all.

    Partitions: iid splits at random into equal parts; dirichlet skews the
    labels in column --by; quantity skews the sizes; key keeps rows with one
    value of --by together, such as a user or a site; domain gives each client
    one value of --by.

    The same command again continues a stopped run.

    Example: fedloom simulate campaign.yaml --clients 10
    """
    from agent.configuration.settings import load_settings
    from fedloom.simulation.simulation import Simulation

    spec = read_spec(file)
    simulation = Simulation(
        spec,
        load_settings(settings or file.parent / _SETTINGS_FILE),
        clients,
        PartitionPlan(partition, by, alpha),
        seed,
    )
    if show_partition:
        _show_partition(simulation, as_json=as_json)
        return
    make_files_private()  # the folder holds every client's rows
    _run(simulation, out or Path("simulations") / spec.name, best=best, force=force, as_json=as_json)


def _show_partition(simulation: "Simulation", *, as_json: bool) -> None:
    from fedloom.cli.simulation.view import print_file_notices
    from fedloom.simulation import partition_view

    split = simulation.partition()
    print_file_notices(split.notices, output.console(stderr=as_json))
    if as_json:
        output.print_json(partition_view.as_json(split.names, split.assignment, split.values))
    else:
        console = output.console()
        console.print(partition_view.show(split.names, split.assignment, split.values, simulation.plan))


def _run(simulation: "Simulation", folder: Path, *, best: bool, force: bool, as_json: bool) -> None:
    from rich.text import Text

    from fedloom.cli.simulation.view import SimulationView
    from fedloom.simulation import run as runs
    from fedloom.simulation.clients import limits_in_words

    console = output.console(stderr=as_json)
    facts = f": {simulation.n_clients} clients, {simulation.plan}; in {folder}"
    console.print(Text.assemble((simulation.spec.name, "bold"), facts))
    console.print(Text(limits_in_words(simulation.settings.policy), style="dim"), soft_wrap=True)
    try:
        with runs.running(simulation, folder, force=force) as run:
            try:
                campaign = SimulationView(run, console).follow()
            except KeyboardInterrupt:
                output.say("stopping…", err=True)  # the clients give their tasks back first
                raise
            if campaign.final_adapter is not None:
                adapter = run.write_results("best" if best else "final")
    except KeyboardInterrupt:
        output.say("stopped; run the same command again to continue", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if campaign.final_adapter is None:
        raise FedloomError(
            f"the campaign is {campaign.state}{f': {visible_line(campaign.reason)}' if campaign.reason else ''}; see "
            f"{folder / runs.LOG_FILE}"
        )
    if as_json:
        views = {"campaign": campaign, "adapter": adapter}
        output.print_json({name: view.model_dump(mode="json") for name, view in views.items()})
        return
    for line in how_it_ended(campaign):
        console.print(Text(visible_line(line), style="yellow"), soft_wrap=True)
    which = f"adapter {adapter.number}{', the best' if best else ''}"
    console.print(f"wrote {folder / runs.ADAPTER_FOLDER} ({which}) and {folder / runs.METRICS_FILE}")
    console.print(f"sha256 {adapter.blob.sha256}")


def how_it_ended(campaign: "CampaignDetail") -> "Iterator[str]":
    """Why it ended before its last round, and which adapter is the best if that is not the final one."""
    from fedloom.measured import best_in_words

    if campaign.reason:
        yield campaign.reason
    best, final = campaign.best_adapter, campaign.final_adapter
    if campaign.spec.evaluation.asks_for_a_decision and best is not None and best != final:
        yield f"adapter {best} is the best ({best_in_words(campaign)}), and adapter {final} the final one"
