"""``fedloom agent check-data``: shows what a campaign would train on, before it does."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.agent.owner_commands import DEFAULT_HOME, Home
from fedloom.cli.failures import ExitCode
from fedloom.cli.output import AsJson

if TYPE_CHECKING:
    from agent.configuration.settings import AgentSettings
    from agent.data.checks.report import DataReport
    from agent.data.source import DataSource

DataName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the data, as in its agent.toml table data.NAME.")
]


def check_data(
    name: DataName,
    campaign: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A campaign file: check with its base model, template and maximum length."),
    ] = None,
    home: Home = DEFAULT_HOME,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Also write the report as an HTML page, with complete examples. Only its owner can read the file.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check data before training: counts, lengths, errors by line, and examples with the text that the loss covers.

    Without --campaign no tokenizer is used: the check covers rows, errors,
    duplicates and characters, but no tokens.

    Nothing leaves this machine. The output and the report quote rows. Exits
    with 1 if the data cannot be used.

    Example: fedloom agent check-data notes --campaign campaign.yaml
    """
    from agent.configuration.settings import SETTINGS_FILE, load_settings

    source, settings = source_of(name, home), load_settings(home / SETTINGS_FILE)
    data_report = _without_tokens(name, source) if campaign is None else _with_tokens(name, source, settings, campaign)
    if report is not None:
        from fedloom.cli.data.html_page import page

        _write_private(report, page(data_report))
    if as_json:
        output.print_json({**data_report.model_dump(mode="json"), "unusable": data_report.unusable or None})
    else:
        from fedloom.cli.data.terminal import show

        show(data_report, output.console())
    if report is not None:
        output.say(f"wrote {report}", err=as_json)
    if data_report.unusable:
        raise typer.Exit(ExitCode.FAILED)


def source_of(name: str, home: Path) -> "DataSource":
    """The data of a name in agent.toml. Raises SettingsError, and typer.BadParameter if there is none."""
    from agent.configuration.settings import SETTINGS_FILE, load_settings
    from agent.errors import SettingsError

    settings = load_settings(home / SETTINGS_FILE)
    if name in settings.broken_data:
        raise SettingsError(home / SETTINGS_FILE, problems=settings.broken_data[name])
    if name not in settings.data:
        known = ", ".join([*settings.data, *settings.broken_data]) or "none"
        message = f"{home / SETTINGS_FILE} has no table [data.{name}]; its data: {known}"
        raise typer.BadParameter(message, param_hint="NAME")
    return settings.data[name]


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, since it quotes rows. Raises OSError."""
    with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        os.fchmod(file.fileno(), 0o600)  # the file may have existed before
        file.write(text)


def _without_tokens(name: str, source: "DataSource") -> "DataReport":
    from agent.data.checks.checking import collect, guess_kind

    kind = guess_kind(source)
    return collect(source, kind).report(name, source, kind)


def _with_tokens(name: str, source: "DataSource", settings: "AgentSettings", campaign: Path) -> "DataReport":
    from agent.local import LocalChild
    from agent.orders.check import CheckRequest
    from fedloom.cli.adapter.local_child import progress_status
    from fedloom.cli.campaign.commands import read_spec

    spec = read_spec(campaign)
    model_folder = settings.models.get(spec.base.model)
    with LocalChild(spec.base, model_folder, compute=settings.compute) as child, progress_status("starting") as show:
        order = CheckRequest(
            model=child.model,
            compute=child.compute,
            name=name,
            data=source,
            kind=spec.kind,
            template=spec.data.template,
            max_length=spec.training.max_length,
            remote_code=settings.policy.remote_code,
        )
        return child.run(order, show).report
