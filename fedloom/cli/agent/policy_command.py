"""``fedloom agent policy``: the owner's settings in words, and what they would refuse."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.agent.known import OwnersHome, find, open_home
from fedloom.cli.agent.owner_commands import DEFAULT_HOME, Home
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson
from shared.system.private_files import make_files_private

if TYPE_CHECKING:
    from agent.policy.refusals import Refusal
    from shared.campaign.spec import CampaignSpec


def policy(
    home: Home = DEFAULT_HOME,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="CAMPAIGN",
            help="Say what would be refused of a campaign that asked (id, name, digest), or of a campaign file, and "
            "which of its benchmarks would run here. Nothing is fetched or trained. Exits with 1 if something is.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say in words what the settings let in and out, what others could learn, what was done so far and what is left.

    Example: fedloom agent policy --explain campaign.yaml
    """
    make_files_private()
    owners = open_home(home)
    if explain is not None:
        _explain(owners, explain, as_json=as_json)
    else:
        _show(owners, as_json=as_json)


def _show(owners: OwnersHome, *, as_json: bool) -> None:
    from fedloom.cli.agent import totals
    from fedloom.cli.agent.words.policy import policy_in_words

    by_campaign, by_data = list(totals.of_campaigns(owners)), list(totals.of_data(owners))
    if as_json:
        document = {
            "policy": owners.settings.policy.model_dump(mode="json"),
            "words": dict(policy_in_words(owners.settings)),
            "campaigns": [each.model_dump(mode="json") for each in by_campaign],
            "data": [each.model_dump(mode="json") for each in by_data],
        }
        output.print_json(document)
        return
    console = output.console()
    words = output.table("", "", fold=[""])
    words.show_header = False
    for title, sentence in policy_in_words(owners.settings):
        words.add_row(title, sentence)
    console.print(words)
    if by_data:
        numbers = ["TRAININGS", "ROWS", "EVALUATIONS", "CAMPAIGNS", "LEFT"]
        table = output.table("DATA", *numbers, right=numbers, fold=["DATA"])
        for data in by_data:
            counts = map(str, (data.trainings, data.rows, data.evaluations, data.campaigns_in_30_days))
            table.add_row(data.name, *counts, _left(data.campaigns_left))
        console.print()
        console.print(table)
        console.print("CAMPAIGNS: in 30 days; LEFT: by max_campaigns", style="dim")
    if by_campaign:
        numbers = ["TRAININGS", "LEFT", "ROWS", "PASSES", "LEFT ", "EVALUATIONS", "BENCHMARKS"]
        table = output.table("CAMPAIGN", *numbers, right=numbers, fold=["CAMPAIGN"])
        for done in by_campaign:
            passes = f"{done.passes:.1f}" if done.passes is not None else ""
            passes_left = f"{done.passes_left:.1f}" if done.passes_left is not None else ""
            trainings = (str(done.trainings), _left(done.trainings_left))
            measured = (str(done.evaluations), str(done.benchmarks))
            table.add_row(done.name, *trainings, str(done.rows), passes, passes_left, *measured)
        console.print()
        console.print(table)
        console.print("LEFT: by max_rounds, and by max_epochs", style="dim")


def _left(number: int | None) -> str:
    return "any" if number is None else str(number)


def _explain(owners: OwnersHome, named: str, *, as_json: bool) -> None:
    from fedloom.cli.agent.deciding import refusal_lines
    from fedloom.cli.agent.words.benchmarks import benchmark_lines, benchmarks_as_json, benchmarks_here_of

    spec, refusals, then = _refusals_of_file(owners, Path(named)) if _is_file(named) else _of_known(owners, named)
    name = spec.name
    available = benchmarks_here_of(owners.settings, spec)
    if as_json:
        document = {"campaign": name, "refusals": [each.as_json() for each in refusals], "otherwise": then}
        output.print_json({**document, "benchmarks": benchmarks_as_json(available)})
    elif refusals:
        output.say(f"{name} would be refused:")
        for line in refusal_lines(refusals):
            output.say(line)
    else:
        output.say(f"nothing in agent.toml refuses {name}; {then}")
    if not as_json:
        for line in benchmark_lines(available):
            output.say(line)
    if refusals:
        raise typer.Exit(ExitCode.FAILED)


def _is_file(named: str) -> bool:
    return Path(named).suffix.lower() in (".yaml", ".yml", ".json") or Path(named).is_file()


def _refusals_of_file(owners: OwnersHome, file: Path) -> "tuple[CampaignSpec, list[Refusal], str]":
    """The specification of a campaign file, what is refused of it, and what would happen otherwise."""
    from agent.policy.accepting import accepts_by_rule
    from agent.policy.verdict import refusals_of_file
    from fedloom.cli.campaign.commands import read_spec
    from shared.campaign.digest import spec_sha256

    spec = read_spec(file)
    digest = spec_sha256(spec, datetime.now(UTC).date())  # as if it were created today
    refusals = refusals_of_file(owners.settings, owners.record.bookings, spec, digest)
    by_rule = accepts_by_rule(owners.settings, digest, spec.data.name)
    then = "it would be accepted without asking you" if by_rule else "it would wait for you"
    return spec, refusals, f"{then}. The rows of the data are counted only then"


def _of_known(owners: OwnersHome, named: str) -> "tuple[CampaignSpec, list[Refusal], str]":
    from fedloom.cli.agent.deciding import refusals_of
    from fedloom.cli.agent.known import decided

    known = find(owners.record, named)
    was = "it was" if known.decided_by is not None else "it"
    return known.spec, refusals_of(owners, known), f"{was} {decided(known)}"
