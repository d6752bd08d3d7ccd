"""A restored backup of a coordinator in use: the campaign continues with the same result."""

from pathlib import Path
from typing import Any

import pytest

from coordinator.backup.restoring import restore
from coordinator.backup.saving import back_up
from shared import algorithms
from shared.digest import sha256_hex
from shared.states import BlobKind
from tests.coordinator.backup.test_backup import begins_again, held, rows, settings_at, stored, with_services
from tests.support import tree_store
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, slots_bytes
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator
from tests.support.suite.tiers import EACH_STORE, deep, soak


class Round:
    """Two agents in round 2 of 3: ada is done, half of bob's delta is uploaded."""

    def __init__(self, operator: Operator, folder: Path) -> None:
        self.operator, self.folder = operator, folder
        self.agents = [ScriptedAgent(str(operator.http.base_url), operator.token(), name) for name in ("ada", "bob")]
        algorithm = {"algorithm": {"name": "scaffold"}, "retention": {"updates": 1}}  # all kinds of blobs
        self.id = begin_campaign(operator, folder, self.agents, rounds=3, **algorithm)
        for number, agent in enumerate(self.agents):
            agent.train(self.delta(1, number), extras=self.extras)
        self.agents[0].train(self.delta(2, 0), extras=self.extras)
        self.lease = self.agents[1].lease("train")
        delta = self.delta(2, 1)
        self.upload_id = self.agents[1].start_upload(self.lease, "delta", delta).json()["id"]
        assert self.agents[1].send_chunk(self.lease, self.upload_id, 0, delta[:100]).status_code == 204

    @property
    def extras(self) -> bytes:
        return slots_bytes(self.folder, 0.25, *algorithms.find("scaffold").client.extras)

    def delta(self, round_number: int, client_number: int) -> bytes:
        return adapter_bytes(self.folder, fill=1.1 * round_number + 10.3 * client_number)

    def call(self, url: str) -> None:
        """Point operator and agents to the coordinator at another address."""
        for each in (self.operator, *self.agents):
            each.http.base_url = url

    def go_on(self) -> str:
        """Complete the campaign. Returns the digest of the final adapter."""
        bob, delta = self.agents[1], self.delta(2, 1)
        upload = bob.start_upload(self.lease, "delta", delta).json()
        sent = bob.send_chunk(self.lease, upload["id"], upload["offset"], delta[upload["offset"] :])
        assert sent.status_code == 204, sent.text
        extras = bob.upload(self.lease, "extras", self.extras)
        assert bob.result(self.lease, bob.train_result(sha256_hex(delta), extras)).status_code == 200
        for number, agent in enumerate(self.agents):
            agent.train(self.delta(3, number), extras=self.extras)
        self.operator.wait_for(self.id, "completed")
        return str(self.operator.get(f"/v1/campaigns/{self.id}/adapters/3")["blob"]["sha256"])

    def close(self) -> None:
        for each in (self.operator, *self.agents):
            each.http.close()


def at_rest(coordinator: RunningCoordinator) -> dict[str, Any]:
    """Wait until nothing is written any more. Returns all rows."""
    services = coordinator.services

    def is_at_rest(_: object) -> bool:
        [campaign] = coordinator.run(rows(services))["campaigns"]
        return not services.last_seen and campaign["claim_token"] is None and campaign["due_at"] > services.clock.now()

    Operator.wait_until(lambda: None, is_at_rest)
    return coordinator.run(rows(services))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (("sqlite", "files"), ("sqlite", "files")),
        soak(("sqlite", "tree"), ("sqlite", "tree")),
        deep(("postgres", "files"), ("postgres", "database")),
        soak(("sqlite", "database"), ("postgres", "files")),
        deep(("postgres", "database"), ("sqlite", "files")),
        soak(("postgres", "tree"), ("sqlite", "database")),
        soak(("sqlite", "files"), ("postgres", "tree")),
    ],
)
@pytest.mark.usefixtures("updates")
def test_a_campaign_continues_from_a_backup_with_the_same_result(
    tmp_path: Path, request: pytest.FixtureRequest, source: tuple[str, str], target: tuple[str, str]
) -> None:
    settings = settings_at(request, tmp_path / "source", *source)
    other = settings_at(request, tmp_path / "target", *target)
    file = tmp_path / "backup.tar"
    with running_coordinator(settings) as running:
        round_2 = Round(Operator(running.url, running.key), tmp_path)
        expected_rows = at_rest(running)
        expected_bytes = running.run(stored(running.services))
        manifest = back_up(settings, file, with_key=True)
        expected = round_2.go_on()
    assert {kind for kind, _ in expected_bytes} == set(BlobKind)
    assert (manifest.campaigns, manifest.adapters, manifest.updates) == (1, 2, 3)
    assert manifest.database == ("sqlite" if source[0] == "sqlite" else "postgresql")
    assert file.stat().st_mode & 0o777 == 0o600
    assert restore(other, file) == manifest
    restored = with_services(other, rows)
    begins_again(expected_rows, restored)
    assert restored == expected_rows
    assert with_services(other, stored) == expected_bytes
    assert not list(tmp_path.glob(".backup.tar.*")), "the backup left temporary files"
    folders = {"updates", "uploads", tree_store.BLOBS, tree_store.CHUNKS, "scratch"}
    assert {path.name for path in other.data_dir.iterdir()} <= {"fedloom.db", "signing.key", *folders}
    with running_coordinator(other) as restored:
        round_2.call(restored.url)
        rest = round_2.delta(2, 1)[100:]
        gone = round_2.agents[1].send_chunk(round_2.lease, round_2.upload_id, 100, rest)
        assert problem(gone).kind == "not-found"  # the agent then asks for the offset to continue from
        assert round_2.go_on() == expected
        assert not list(restored.services.storage.scratch.iterdir())
    round_2.close()


@EACH_STORE
def test_updates_released_during_a_backup_are_not_missed(
    coordinator: RunningCoordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round closes after the rows were copied but before the updates are: these are deleted and not needed."""
    operator = Operator(coordinator.url, coordinator.key)
    ada, bob = (ScriptedAgent(coordinator.url, operator.token(), name) for name in ("ada", "bob"))
    campaign_id = begin_campaign(operator, tmp_path, [ada, bob], rounds=2)
    ada.train(adapter_bytes(tmp_path, 1.0))
    seen = []

    def reach(point: str) -> None:
        if point == "backup: rows copied":
            seen.append(point)
            if len(seen) == 1:
                bob.train(adapter_bytes(tmp_path, 3.0))
                operator.wait_until(lambda: operator.get("/v1/storage")["n_blobs"], lambda n: n == 2)
                operator.wait_until(lambda: coordinator.run(held(coordinator.services)), lambda left: len(left) == 2)

    monkeypatch.setattr("shared.crash_points.reach", reach)
    manifest = back_up(coordinator.services.settings, tmp_path / "backup.tar")
    assert (len(seen), manifest.adapters, manifest.updates) == (2, 2, 0)
    other = quick_settings(tmp_path / "restored", None, coordinator.services.settings.storage.updates)
    restore(other, tmp_path / "backup.tar")
    assert set(with_services(other, stored)) == {(BlobKind.ADAPTER, 0), (BlobKind.ADAPTER, 1)}
    assert operator.get(f"/v1/campaigns/{campaign_id}")["rounds_closed"] == 1
    for each in (operator, ada, bob):
        each.http.close()
