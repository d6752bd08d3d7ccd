"""The signing key: made once, private, the same for all replicas, rotated by its own signature."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator import main
from coordinator.errors import SigningKeyNotLost, SigningKeyUnusable
from coordinator.settings import Settings
from coordinator.signing.key_file import KeyFile
from shared import crash_points
from shared.signing.keys import is_signed
from shared.wire.statements import succession_text
from tests.coordinator.signing.chains import signed_of, told
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, begin_campaign
from tests.support.server import quick_settings, running_coordinator


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return quick_settings(data_dir, None)


def begun(url: str, key: str, folder: Path) -> tuple[ScriptedAgent, str]:
    """An agent of a campaign."""
    operator = Operator(url, key)
    agents = [ScriptedAgent(url, operator.token(), name) for name in ("ada", "bob")]
    return agents[0], begin_campaign(operator, folder, agents)


def test_the_first_start_makes_it_for_this_user_alone(settings: Settings, tmp_path: Path) -> None:
    with running_coordinator(settings) as running:
        file = settings.data_dir / "signing.key"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        agent, campaign_id = begun(running.url, running.key, tmp_path)
        assert agent.identity["signing_key"] == signed_of(agent, campaign_id)[0]["key"]
        private = json.loads(file.read_text())["private_key"]
    database = b"".join(path.read_bytes() for path in settings.data_dir.glob("fedloom.db*"))
    assert private.encode() not in database
    assert bytes.fromhex(private) not in database
    before = file.read_bytes()
    with running_coordinator(settings):
        assert file.read_bytes() == before


def test_a_file_of_ones_own_is_used(settings: Settings, tmp_path: Path) -> None:
    """As replicas do that share it."""
    file = tmp_path / "elsewhere" / "key"
    other = settings.model_copy(update={"signing": settings.signing.model_copy(update={"key_file": file})})
    with running_coordinator(other):
        assert KeyFile(file).read()
        assert not (settings.data_dir / "signing.key").exists()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda file: file.symlink_to("not-mounted-yet")])
def test_what_is_no_file_there_is_refused_before_a_key_is_made(
    settings: Settings, make: Callable[[Path], object]
) -> None:
    """A key that is in no file would be lost with the process."""
    make(settings.signing_key_file)
    with pytest.raises(SigningKeyUnusable, match=r"it is not a regular file|it links to a file that does not exist"):
        main.prepare(settings)
    settings.signing_key_file.rename(settings.signing_key_file.with_suffix(".old"))
    main.prepare(settings)


def test_a_link_to_a_shared_file_stays_one(settings: Settings, tmp_path: Path) -> None:
    shared = tmp_path / "shared.key"
    first = KeyFile(shared).make()
    settings.signing_key_file.symlink_to(shared)
    main.prepare(settings)
    keys = main.rotate_signing_key(settings, is_lost=False)
    assert keys.earlier == [first.public]
    assert settings.signing_key_file.is_symlink()
    stored = KeyFile(shared).read()
    assert stored is not None
    assert stored.public == keys.public == main.signing_key(settings).public


def lost(file: Path) -> None:
    file.unlink()


def of_another(file: Path) -> None:
    file.unlink()
    KeyFile(file).make()


def garbage(file: Path) -> None:
    file.write_text("{}")


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:40])


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lost, "it is missing"),
        (of_another, "its public half is .*, and this coordinator signs by"),
        (garbage, "it is no file of a signing key"),
        (half, "it is no file of a signing key"),
        (a_folder, "it is not a regular file"),
    ],
)
def test_a_service_does_not_start_with_another_key(
    settings: Settings, change: Callable[[Path], None], why: str
) -> None:
    main.prepare(settings)
    file = settings.signing_key_file
    private = json.loads(file.read_text())["private_key"]
    change(file)
    with pytest.raises(SigningKeyUnusable, match=why) as refused:
        main.prepare(settings)
    assert private[:8] not in str(refused.value)
    assert "rotate-signing-key --lost" in str(refused.value)


def test_a_running_service_follows_a_rotation(settings: Settings, tmp_path: Path) -> None:
    with running_coordinator(settings) as running:
        agent, campaign_id = begun(running.url, running.key, tmp_path)
        agent.lease("train")
        texts = [each["text"] for each in signed_of(agent, campaign_id)]
        first = agent.identity["signing_key"]
        keys = [main.rotate_signing_key(settings, is_lost=False).public for _ in range(2)]
        told(agent, campaign_id)
        assert [each["text"] for each in signed_of(agent, campaign_id)] == texts
        found = agent.http.get("/v1/signing-keys").json()
        assert found["current"] == keys[1]
        assert [(each["old"], each["new"]) for each in found["successions"]] == [(first, keys[0]), (keys[0], keys[1])]
        assert all(
            is_signed(succession_text(each["new"]), each["signature"], each["old"]) for each in found["successions"]
        )
        late = ScriptedAgent(running.url, Operator(running.url, running.key).token(), "late")
        assert late.identity["signing_key"] == keys[1]
    assert stat.S_IMODE(settings.signing_key_file.stat().st_mode) == 0o600


def test_a_replica_with_an_old_file_signs_nothing(settings: Settings, tmp_path: Path) -> None:
    with running_coordinator(settings) as running:
        agent, campaign_id = begun(running.url, running.key, tmp_path)
        old = settings.signing_key_file.read_bytes()
        main.rotate_signing_key(settings, is_lost=False)
        new = settings.signing_key_file.read_bytes()
        settings.signing_key_file.write_bytes(old)
        refused = agent.http.get(f"/v1/agents/me/campaigns/{campaign_id}/statements")
        assert (refused.status_code, problem(refused).kind) == (503, "unavailable")
        assert problem(refused).retryable
        settings.signing_key_file.write_bytes(new)
        told(agent, campaign_id)


class Died(BaseException):
    """Ends a rotation where a kill would."""


@pytest.mark.parametrize("heal", ["start", "rotate again"])
def test_a_rotation_that_was_killed_is_finished(settings: Settings, monkeypatch: pytest.MonkeyPatch, heal: str) -> None:
    main.prepare(settings)
    before = KeyFile(settings.signing_key_file).read()

    def die(point: str) -> None:
        if point == "signing key: in the file":
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(crash_points, "reach", die)
        with pytest.raises(Died):
            main.rotate_signing_key(settings, is_lost=False)
    written = KeyFile(settings.signing_key_file).read()
    assert before is not None
    assert written is not None
    assert written.earlier == [before.public]
    if heal == "start":
        main.prepare(settings)
        assert main.signing_key(settings) == written or main.signing_key(settings).public == written.public
    else:
        assert main.rotate_signing_key(settings, is_lost=False).earlier == [before.public, written.public]


def test_a_lost_key_is_replaced_without_a_signature(settings: Settings) -> None:
    main.prepare(settings)
    with pytest.raises(SigningKeyNotLost, match="is not lost"):
        main.rotate_signing_key(settings, is_lost=True)
    settings.signing_key_file.unlink()
    with pytest.raises(SigningKeyUnusable, match="it is missing"):
        main.rotate_signing_key(settings, is_lost=False)
    keys = main.rotate_signing_key(settings, is_lost=True)
    assert keys.successions == ()
    main.prepare(settings)


def test_an_older_database_is_no_reason_to_sign_by_an_older_key(settings: Settings, tmp_path: Path) -> None:
    """The rows come from a backup that was made before a rotation; the file knows both keys."""
    from coordinator.backup.restoring import restore
    from coordinator.backup.saving import back_up

    with running_coordinator(settings) as running:
        agent, campaign_id = begun(running.url, running.key, tmp_path)
        back_up(settings, tmp_path / "file")
        new = main.rotate_signing_key(settings, is_lost=False).public
    other = quick_settings(tmp_path / "other", None)
    restore(other, tmp_path / "file")
    other.signing_key_file.write_bytes(settings.signing_key_file.read_bytes())
    with running_coordinator(other) as running:
        agent.http.base_url = running.url
        assert signed_of(agent, campaign_id)[0]["key"] == new
        told(agent, campaign_id)


@pytest.mark.parametrize("is_there", ["nothing", "the same", "a later one", "another"])
def test_a_backup_has_the_key_only_when_asked_and_restores_it(
    settings: Settings, tmp_path: Path, is_there: str
) -> None:
    from coordinator.backup.errors import OtherKey
    from coordinator.backup.restoring import restore
    from coordinator.backup.saving import back_up

    main.prepare(settings)
    private = json.loads(settings.signing_key_file.read_text())["private_key"].encode()
    back_up(settings, tmp_path / "without")
    back_up(settings, tmp_path / "with", with_key=True)
    assert private not in (tmp_path / "without").read_bytes()
    assert private in (tmp_path / "with").read_bytes()
    assert stat.S_IMODE((tmp_path / "with").stat().st_mode) == 0o600
    other = quick_settings(tmp_path / "other", None)
    other.data_dir.mkdir()
    own = KeyFile(other.signing_key_file)
    keys = KeyFile(settings.signing_key_file).read()
    assert keys is not None
    match is_there:
        case "the same":
            own.store(keys)
        case "a later one":
            own.store(keys.succeeded_by(own.make().signing))
        case "another":
            own.make()
    before: Any = own.read()
    if is_there == "another":
        with pytest.raises(OtherKey, match="move it elsewhere"):
            restore(other, tmp_path / "with")
        assert not (other.data_dir / "fedloom.db").exists()
        return
    restore(other, tmp_path / "with")
    after = own.read()
    assert after is not None
    assert after.public == (before or keys).public
    assert stat.S_IMODE(other.signing_key_file.stat().st_mode) == 0o600
    main.prepare(other)
