"""``fedloom agent enroll``: a first time, and again in the same folder."""

from pathlib import Path

import pytest

from agent.record.bookings import Work, WorkKind
from agent.workspace import Workspace
from shared.signing.keys import spoken
from tests.cli.conftest import Run
from tests.support.ledgers import NO_LEDGER
from tests.support.operator import Operator
from tests.support.server import RunningCoordinator


@pytest.fixture
def enroll(coordinator: RunningCoordinator, operator: Operator, run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command with a token of its own."""

    def command(*arguments: object) -> object:
        monkeypatch.setenv("FEDLOOM_TOKEN", operator.token())
        return run("agent", "enroll", "--coordinator", coordinator.url, *arguments)

    return command  # type: ignore[return-value]


def test_a_revoked_agent_is_told_the_command_and_keeps_what_was_counted(
    enroll: Run, run: Run, operator: Operator, tmp_path: Path
) -> None:
    home = Workspace(tmp_path / "home")
    assert enroll("--home", home.home, "--name", "ada").code == 0
    home.record.bookings.book(1, "a", Work("c1", WorkKind.TRAIN, 1, 0, "s", "a", steps=5, n_rows=10), NO_LEDGER)
    ran = enroll("--home", home.home)
    assert ran.code == 1
    assert "is already enrolled as ada. If it was revoked, or gets another coordinator, add --again" in ran.err
    operator.post("/v1/agents/ada/revoke")
    ran = run("agent", "rotate-secret", "--home", home.home)
    assert (
        "agent ada was revoked by the operator; enrol anew with a new token (fedloom agent enroll --again)" in ran.err
    )
    ran = enroll("--home", home.home, "--again")
    assert (ran.code, ran.err) == (0, "")
    key = spoken(Workspace(home.home).read_identity().signing_key)
    assert ran.out == (
        f"enrolled again as ada; settings and record are as before. Now run:\n  fedloom agent run --home {home.home}\n"
        f"the coordinator signs by the key {key}\n"
        "compare it with its operator, who sees it with `fedloom coordinator signing-key`\n"
    )
    assert home.record.bookings.of_campaign("c1").n_rows == 10


def test_settings_without_a_record_are_told_before_totals_start_at_zero(enroll: Run, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("# mine\n")
    ran = enroll("--home", tmp_path)
    assert ran.code == 0
    assert f"{tmp_path} has settings and no record of work: totals start at zero." in ran.err
    assert "restore its record.db from the latest backup before you run it" in ran.err
    (tmp_path / "record.db").unlink()
    (tmp_path / "identity.json").unlink()
    ran = enroll("--home", tmp_path)
    assert ran.code == 1
    assert "record.db cannot be used: it is missing, and an agent worked here (ledger)" in ran.err
    assert "totals start at zero. " not in ran.err
