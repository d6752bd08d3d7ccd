"""``fedloom coordinator signing-key``, ``rotate-signing-key``: the key by which agents know the coordinator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedloom.cli import output
from fedloom.cli.coordinator.opening import DatabaseUrl, DataDir, database_errors_converted, prepare, settings_of
from fedloom.cli.output import AsJson

if TYPE_CHECKING:
    from coordinator.signing.key_file import Keys


def signing_key(data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Show the key that agents trust, as its owners see it with `fedloom agent fingerprint`."""
    from coordinator import main

    settings = settings_of(data_dir, database_url)
    prepare(settings, first_key=False)
    with database_errors_converted():
        keys = main.signing_key(settings)
    _print(keys, settings.signing_key_file, as_json=as_json)


def rotate_signing_key(
    lost: Annotated[
        bool,
        typer.Option("--lost", help="The key is lost: make one that no key signed. All agents must then enrol again."),
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make a new signing key, signed by the old one. Agents follow it by themselves, and say so.

    The service may run meanwhile. Replicas read the new key from the same
    file; copy it to those that have a file of their own.
    """
    from coordinator import main

    settings = settings_of(data_dir, database_url)
    prepare(settings, first_key=False)
    with database_errors_converted():
        keys = main.rotate_signing_key(settings, is_lost=lost)
    _print(keys, settings.signing_key_file, as_json=as_json)
    if lost and not as_json:
        output.say("no key signed it: every agent refuses it until its owner enrols again with --again", err=True)


def _print(keys: "Keys", file: Path, *, as_json: bool) -> None:
    from shared.signing.keys import spoken

    if as_json:
        earlier = [each.model_dump() for each in keys.successions]
        output.print_json({"file": str(file.absolute()), "public_key": keys.public, "successions": earlier})
        return
    output.say(f"key: {spoken(keys.public)}")
    n_before = len(keys.successions)
    before = f", after {n_before} other{'' if n_before == 1 else 's'}" if n_before else ""
    output.say(f"the private half is in {file}{before}", err=True)
