"""No request gives away a single client's update, whoever asks and however."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from coordinator.database.tables import BlobUseRow
from shared.digest import sha256_hex
from shared.states import BlobKind
from tests.support.driven import DrivenCampaign, delta_of
from tests.support.operator import Operator, problem
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign, slots_bytes
from tests.support.server import RunningCoordinator
from tests.support.stored import stored_bytes
from tests.support.suite.tiers import EACH_STORE

Enroll = Callable[..., ScriptedAgent]
KEPT = {"algorithm": {"name": "scaffold"}, "retention": {"updates": 9}, "rounds": 2}
REFUSED = "single updates are read by aggregation and verification alone"


def kinds_of(running: RunningCoordinator) -> dict[str, set[BlobKind]]:
    """The kinds of all stored blobs by digest."""
    query = select(BlobUseRow.sha256, BlobUseRow.kind).where(BlobUseRow.stored)
    found: dict[str, set[BlobKind]] = {}
    for sha256, kind in running.run(running.services.database.fetch(query)):
        found.setdefault(sha256, set()).add(kind)
    return found


@contextmanager
def nobody(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, verify=False) as client:
        yield client


def replies(http: httpx.Client, sha256: str) -> list[httpx.Response]:
    """Every way to ask for a blob."""
    url = f"/v1/blobs/{sha256}"
    ranges = ({}, {"Range": "bytes=0-7"}, {"Range": "bytes=-7"}, {"Range": "bytes=9-"}, {"Range": "bytes=0-1,4-5"})
    asked = [http.get(url, headers=each) for each in ranges]
    asked += [http.get(url, params={"kind": "adapter"}), http.head(url), http.post(url), http.get(url + "/")]
    return [*asked, http.get(f"/v1/blobs/{sha256.upper()}"), http.get(f"/v1/blobs/upload:{sha256}")]


def train(campaign: DrivenCampaign, *agents: ScriptedAgent, fill: float = 0.25) -> None:
    for agent in agents:
        campaign.train(agent, extras=slots_bytes(campaign.folder, fill, "delta_c"))


@EACH_STORE
def test_no_key_reads_an_update_of_a_finished_campaign(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign = DrivenCampaign.begun(operator, tmp_path, [ada, bob], **KEPT)
    for number in (1, 2):
        campaign.wait_until_open(number)
        train(campaign, ada, bob, fill=number / 4)
    campaign.wait_for("completed")
    cyd = enroll("cyd")  # takes no part
    stored = kinds_of(either_coordinator)
    assert {kind for kinds in stored.values() for kind in kinds} == set(BlobKind)
    with nobody(str(operator.http.base_url)) as stranger:
        for sha256, kinds in stored.items():
            data = stored_bytes(either_coordinator, sha256)
            assert data is not None
            for http in (operator.http, ada.http, bob.http, cyd.http, stranger):
                asked = replies(http, sha256)
                if http is operator.http and BlobKind.ADAPTER in kinds:
                    assert asked[0].content == data
                    continue
                assert not any(reply.is_success for reply in asked), (kinds, asked)
                assert not any(data[8:16] in reply.content for reply in asked)
            words = problem(operator.http.get(f"/v1/blobs/{sha256}")) if BlobKind.ADAPTER not in kinds else None
            if any(kind.is_of_one_client for kind in kinds):
                assert words is not None
                assert (words.status, words.kind, words.detail) == (403, "forbidden", REFUSED)
            elif words is not None:
                assert words.detail.startswith("the algorithm's state is read by aggregation and verification")


@EACH_STORE
def test_updates_on_their_way_into_a_round_are_refused_too(
    coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """Uploaded and unfinished, of an open round, late, and of a cancelled round."""
    agents = ada, bob, cyd = [enroll(name) for name in ("ada", "bob", "cyd")]
    rules = {"stragglers": {"late_updates": "next_round", "over_selection": 0.5}, "rounds": 4}
    campaign = DrivenCampaign.begun(operator, tmp_path, agents, selection={"clients_per_round": 2}, **rules)
    late = cyd.lease("train")
    campaign.train(ada)
    lease = bob.lease("train")
    staged = bob.upload(lease, "delta", adapter_bytes(tmp_path, **delta_of("bob", 1)))
    digests = [sha256_hex(adapter_bytes(tmp_path, **delta_of(name, 1))) for name in ("ada", "bob", "cyd")]
    assert staged == digests[1]
    readers = (operator, *agents)

    def nobody_reads(*sha256s: str) -> None:
        for sha256 in sha256s:
            for reader in readers:
                assert not any(reply.is_success for reply in replies(reader.http, sha256))

    nobody_reads(*digests)
    assert bob.result(lease, bob.train_result(staged)).status_code == 200
    campaign.wait_until_open(2)
    campaign.train(cyd, late)
    assert stored_bytes(coordinator, digests[2]) is not None
    nobody_reads(*digests)
    campaign.move("cancel")
    nobody_reads(*digests)


@pytest.mark.usefixtures("coordinator")
def test_an_adapter_stays_readable_although_an_update_has_its_bytes(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    """The bytes tell an operator nothing that the adapter does not. The next reader is judged by the same rule."""
    ada, bob = enroll("ada"), enroll("bob")
    begin_campaign(operator, tmp_path, [ada, bob], retention={"updates": 1})
    zeros = adapter_bytes(tmp_path)
    ada.train(zeros)
    assert operator.http.get(f"/v1/blobs/{sha256_hex(zeros)}").content == zeros
    assert ada.http.get(f"/v1/blobs/{sha256_hex(zeros)}").status_code == 403


@pytest.mark.usefixtures("coordinator")
def test_an_update_that_was_deleted_is_refused_in_the_same_words(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada, bob = enroll("ada"), enroll("bob")
    campaign = DrivenCampaign.begun(operator, tmp_path, [ada, bob], rounds=1)
    campaign.train(ada)
    campaign.train(bob)
    campaign.wait_for("completed")
    operator.wait_until(lambda: operator.get("/v1/storage")["bytes_by_kind"], lambda found: "delta" not in found)
    for share in operator.get(f"{campaign.path}/adapters/1")["contributions"]:
        refused = problem(operator.http.get(f"/v1/blobs/{share['update_sha256']}"))
        assert (refused.status, refused.detail) == (403, REFUSED)


def test_the_reference_says_who_reads_what(coordinator: RunningCoordinator) -> None:
    with nobody(coordinator.url) as client:
        operation = client.get("/openapi.json").json()["paths"]["/v1/blobs/{sha256}"]["get"]
        assert "read by aggregation and verification alone" in " ".join(operation["description"].split())
        assert operation["responses"]["403"]["x-problem-types"]
        assert "read by aggregation and verification alone" in " ".join(client.get("/docs").text.split())
