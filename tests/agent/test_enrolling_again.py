"""An agent that enrols again keeps what was done in its folder; nothing is begun anew without a word."""

import asyncio
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from agent.errors import AlreadyRunning, CoordinatorRefused, CoordinatorUnreachable, NotEnrolled, RecordUnusable
from agent.main import AlreadyEnrolled, begins_beside_settings, enroll
from agent.record.bookings import Totals, Work, WorkKind
from agent.record.campaigns import Terms
from agent.workspace import Identity, Workspace
from tests.agent.parts import campaign_spec, digest_of
from tests.support.ledgers import NO_LEDGER, api_of
from tests.support.operator import Operator
from tests.support.server import RunningCoordinator, free_port

TRAINED = Totals(n_trainings=1, steps=5, n_rows=10)


@pytest.fixture
def home(coordinator: RunningCoordinator, operator: Operator, tmp_path: Path) -> Workspace:
    """An enrolled home that asked its owner about a campaign, trained once, and sent what it made."""
    workspace = Workspace(tmp_path / "home")
    enroll(workspace.home, coordinator.url, operator.token(), "ada")
    workspace.settings_file.write_text("# my settings\n")
    workspace.record.bookings.book(1, "a", Work("c1", WorkKind.TRAIN, 1, 0, "s", "a", steps=5, n_rows=10), NO_LEDGER)
    terms = Terms(
        agent_id=workspace.read_identity().agent_id,
        created_on=date(2026, 1, 1),
        plain_client=True,
        mixes_ranks=False,
        participants=["ada"],
        n_participants=1,
    )
    workspace.record.campaigns.add("c1", coordinator.url, digest_of(campaign_spec()), campaign_spec(), terms)
    (workspace.task_folder("c1.1") / "delta.safetensors").write_text("sent")
    return workspace


def content(home: Workspace) -> dict[str, bytes]:
    """All files but the identity and the ledger, by name."""
    others = {home.home / "identity.json", home.home / "agent.lock", *(home.home / "ledger").glob("*")}
    files = (path for path in home.home.rglob("*") if path.is_file() and path not in others)
    return {str(path.relative_to(home.home)): path.read_bytes() for path in files}


def is_known(identity: Identity) -> bool:
    """Whether the coordinator knows the secret of an identity."""

    async def ask() -> None:
        api = api_of(identity.coordinator, identity.secret)
        try:
            await api.own_campaigns()
        finally:
            await api.close()

    try:
        asyncio.run(ask())
    except CoordinatorRefused:
        return False
    return True


def test_a_revoked_agent_enrols_again_and_nothing_else_of_its_folder_changes(
    home: Workspace, coordinator: RunningCoordinator, operator: Operator
) -> None:
    before, old = content(home), home.read_identity()
    operator.post("/v1/agents/ada/revoke")
    assert not is_known(old)
    new = enroll(home.home, coordinator.url, operator.token(), again=True)
    assert new == home.read_identity()
    assert new.name == "ada", "its name is that of before"
    assert new.agent_id != old.agent_id
    assert is_known(new)
    assert content(home) == before
    assert home.record.bookings.of_campaign("c1") == TRAINED


def test_an_agent_that_was_not_revoked_can_take_another_name(
    home: Workspace, coordinator: RunningCoordinator, operator: Operator
) -> None:
    with pytest.raises(CoordinatorRefused):
        enroll(home.home, coordinator.url, operator.token(), again=True)  # the name is its own, and is taken
    assert is_known(home.read_identity())
    assert enroll(home.home, coordinator.url, operator.token(), "bob", again=True).name == "bob"


def test_an_enrolment_that_is_refused_leaves_the_identity_and_an_interrupted_change_of_its_secret(
    home: Workspace, coordinator: RunningCoordinator
) -> None:
    identity = home.read_identity()
    changing = home.secret_for("a change that was interrupted")
    for url, error in (
        (coordinator.url, CoordinatorRefused),
        (f"http://127.0.0.1:{free_port()}", CoordinatorUnreachable),
    ):
        with pytest.raises(error):
            enroll(home.home, url, "no-such-token", again=True)
        assert home.read_identity() == identity
        assert is_known(identity)
        assert home.pending_secret("a change that was interrupted") == changing


def test_an_enrolled_home_names_the_way_that_keeps_its_totals_first(
    home: Workspace, coordinator: RunningCoordinator
) -> None:
    with pytest.raises(AlreadyEnrolled) as caught:
        enroll(home.home, coordinator.url, "unused", "ada")
    said = str(caught.value)
    assert said.index("add --again: that replaces its identity, and what was done stays counted") < said.index("--home")
    assert "another --home, whose totals start at zero" in said


def test_the_identity_of_a_running_agent_is_not_replaced(home: Workspace, coordinator: RunningCoordinator) -> None:
    with home.lock(), pytest.raises(AlreadyRunning):
        enroll(home.home, coordinator.url, "unused", again=True)


def without_a_record(home: Workspace) -> None:
    home.record.path.unlink()


def with_a_broken_record(home: Workspace) -> None:
    home.record.path.write_bytes(b"no database " * 1000)


def with_nothing_but(*names: str) -> Callable[[Workspace], None]:
    def spoil(home: Workspace) -> None:
        for path in home.home.iterdir():
            if path.name not in names:
                path.unlink() if path.is_file() else shutil.rmtree(path)

    spoil.__name__ = f"with nothing but {', '.join(names)}"
    return spoil


@pytest.mark.parametrize(
    ("spoil", "again", "words"),
    [
        (without_a_record, True, "it is missing"),
        (with_a_broken_record, True, "file is not a database"),
        (with_nothing_but("ledger"), False, "it is missing, and an agent worked here (ledger)"),
        (with_nothing_but("agent.toml", "tasks"), False, "it is missing, and an agent worked here (tasks/)"),
        (with_nothing_but("tasks", "ledger"), False, "an agent worked here (ledger, tasks/)"),
        (with_nothing_but("record.db"), False, ""),
        (with_nothing_but("record.db"), True, ""),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_empty_record_never_takes_the_place_of_a_lost_one(
    home: Workspace,
    coordinator: RunningCoordinator,
    operator: Operator,
    spoil: Callable[[Workspace], None],
    again: bool,
    words: str,
) -> None:
    spoil(home)
    token = operator.token()
    if words:
        with pytest.raises(RecordUnusable) as caught:
            enroll(home.home, coordinator.url, token, "bob", again=again)
        assert words in str(caught.value)
        assert "from the latest backup, since with an older one totals go down" in str(caught.value)
        assert "another --home, whose totals start at zero" in str(caught.value)
    else:
        enroll(home.home, coordinator.url, token, "bob", again=again)
        assert home.record.bookings.of_campaign("c1") == TRAINED


def test_enrolling_again_needs_an_agent(tmp_path: Path, coordinator: RunningCoordinator) -> None:
    with pytest.raises(NotEnrolled):
        enroll(tmp_path / "new", coordinator.url, "unused", again=True)
    assert not (tmp_path / "new").exists()


def test_settings_that_were_written_before_are_kept_and_told(
    tmp_path: Path, coordinator: RunningCoordinator, operator: Operator
) -> None:
    home = Workspace(tmp_path / "home")
    assert not begins_beside_settings(home.home)
    home.home.mkdir()
    home.settings_file.write_text("# mine\n")
    assert begins_beside_settings(home.home)
    enroll(home.home, coordinator.url, operator.token(), "ada")
    assert home.settings_file.read_text() == "# mine\n"
    assert not begins_beside_settings(home.home)


def test_a_folder_that_an_enrolment_left_half_made_is_a_new_one(
    tmp_path: Path, coordinator: RunningCoordinator, operator: Operator
) -> None:
    home = Workspace(tmp_path / "home")
    home.create()
    enroll(home.home, coordinator.url, operator.token(), "ada")
    home.record.check()
