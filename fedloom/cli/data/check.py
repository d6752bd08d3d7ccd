"""``fedloom agent check-data``: what a campaign would train on, before it does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.agent.owner_commands import DEFAULT_HOME, Home, agent_errors_reported
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson

if TYPE_CHECKING:
    from agent.data.report import DataReport
    from agent.settings import AgentSettings, DataSource


def check_data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The data, as its table in agent.toml is called.")],
    campaign: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A campaign file, for its base model, template and maximum length."),
    ] = None,
    home: Home = DEFAULT_HOME,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write the same as a page, with its examples whole.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what would be trained on: counts, lengths, errors by line, and examples with what the loss covers.

    Without --campaign no tokenizer is asked: rows, errors, duplicates and
    characters are checked, and nothing is said about tokens.

    Nothing leaves this machine. What is shown and written quotes rows. Exit
    code 1 where the data cannot be used.
    """
    from agent.settings import load_settings

    with agent_errors_reported():
        settings = load_settings(home / "agent.toml")
        if name not in settings.data:
            known = ", ".join(settings.data) or "none"
            message = f"{home / 'agent.toml'} has no table [data.{name}]; there is {known}"
            raise typer.BadParameter(message, param_hint="NAME")
        source = settings.data[name]
        found = _plain(name, source) if campaign is None else _with_tokens(name, source, settings, campaign)
    if report is not None:
        from fedloom.cli.data.html_page import page

        report.write_text(page(found), encoding="utf-8")
    if as_json:
        output.print_json({**found.model_dump(mode="json"), "unusable": found.unusable or None})
    else:
        from fedloom.cli.data.terminal import show

        show(found, output.console())
    if report is not None:
        typer.echo(f"wrote {report}", err=as_json)
    if found.unusable:
        raise typer.Exit(ExitCode.FAILED)


def _plain(name: str, source: "DataSource") -> "DataReport":
    from agent.data.checking import gather, kind_of

    kind = kind_of(source)
    return gather(source, kind).report(name, source, kind)


def _with_tokens(name: str, source: "DataSource", settings: "AgentSettings", campaign: Path) -> "DataReport":
    from agent.local import LocalChild
    from fedloom.cli.campaign.commands import read_spec
    from fedloom.cli.adapter.local_child import progress_shown

    spec = read_spec(campaign)
    mapped = settings.models.get(spec.base.model)
    with LocalChild(spec.base, mapped, compute=settings.compute) as child, progress_shown("starting") as show:
        return child.check(
            name,
            source,
            kind=spec.kind,
            template=spec.data.template,
            max_length=spec.training.max_length,
            remote_code=settings.policy.remote_code,
            on_progress=show,
        )
