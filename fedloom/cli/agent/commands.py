"""``fedloom agent``: the commands of data owners and of operators, listed apart."""

import typer

from fedloom.cli.agent import (
    campaigns_command,
    decision_commands,
    fingerprint,
    ledger_commands,
    operator_commands,
    owner_commands,
    policy_command,
    release_command,
)
from fedloom.cli.agent.pull import command as pull_command
from fedloom.cli.agent.report import command as report_command
from fedloom.cli.data import check as check_data
from fedloom.cli.data import rows as data_rows

app = typer.Typer(help="Run an agent; list, show and revoke enrolled agents.", no_args_is_help=True)
for command in (
    owner_commands.enroll,
    owner_commands.run,
    owner_commands.rotate_secret,
    check_data.check_data,
    data_rows.rows,
    campaigns_command.campaigns,
    decision_commands.approve,
    decision_commands.refuse,
    decision_commands.pause,
    decision_commands.leave,
    decision_commands.forget,
    pull_command.pull,
    release_command.release,
    report_command.report,
    policy_command.policy,
    fingerprint.fingerprint,
):
    app.command(rich_help_panel="Data owner")(command)
for name, operators_command in (
    ("list", operator_commands.list_),
    ("show", operator_commands.show),
    ("revoke", operator_commands.revoke),
):
    app.command(name, rich_help_panel="Operator")(operators_command)
app.add_typer(ledger_commands.app, name="ledger", rich_help_panel="Data owner")
