"""A name that would change a request's path is a name that nothing has; an address with a wrong path is named."""

from collections.abc import Callable

import pytest

from fedloom import Client, errors
from tests.cli.conftest import Run
from tests.support.server import RunningCoordinator

NAMES = ["notes/events", "a/../b", ".", "..", "/", ""]
CALLS: dict[str, Callable[[Client, str], object]] = {
    "campaign": lambda client, name: client.campaign(name),
    "agent": lambda client, name: client.revoke_agent(name),
    "token": lambda client, name: client.delete_token(name),
    "verification": lambda client, name: client.cancel_verification("notes", name),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", CALLS)
def test_a_name_that_is_another_path_is_not_found_without_a_request(kind: str, name: str) -> None:
    with (
        Client("http://127.0.0.1:1", "flo_x") as client,
        pytest.raises(errors.NotFound, match=f"^there is no {kind} ") as refused,
    ):
        CALLS[kind](client, name)
    assert refused.value.problem.status == 404


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", [("campaign", "show"), ("campaign", "cancel"), ("token", "delete")])
def test_a_command_says_that_there_is_none(fedloom: Run, command: tuple[str, str], name: str) -> None:
    ran = fedloom(*command, name)
    shown = name or "without a name"
    assert (ran.code, ran.out, ran.err) == (5, "", f"fedloom: there is no {command[0]} {shown}\n")


def test_an_address_with_a_wrong_path_is_named(fedloom: Run, coordinator: RunningCoordinator) -> None:
    ran = fedloom("--url", f"{coordinator.url}/x", "campaign", "list")
    assert ran.code == 3
    where = f"{coordinator.url}/x: no API of a coordinator is at this address; is its path right?"
    assert ran.err == f"fedloom: {where} (FEDLOOM_URL or --url)\n"


def test_messages_of_commands_have_no_words_of_the_library(run: Run) -> None:
    state = run("campaign", "list", "--state", "nonsense")
    assert state.code == 2
    assert state.err.startswith("fedloom: Invalid value for '--state': 'nonsense' is not one of 'preparing'")
    clear = run("--url", "http://elsewhere.example", "campaign", "list")
    assert clear.code == 2
    assert clear.err.endswith("use https://, or allow it with --insecure\n")
