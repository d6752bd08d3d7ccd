"""Chains: a campaign that starts from another's adapter."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from coordinator.backup.restoring import restore
from coordinator.backup.saving import back_up
from coordinator.campaigns import service
from coordinator.database.tables import BlobRow, BlobUseRow
from coordinator.errors import Invalid
from coordinator.services import Services
from coordinator.storage.orphans import sweep_orphans
from coordinator.storage.retention import release_blobs
from shared.adapters.files import AdapterFile
from shared.campaign.spec import CampaignSpec
from shared.digest import sha256_hex
from shared.states import BlobKind
from tests.coordinator.backup.test_backup import settings_at
from tests.support.operator import Operator, problem
from tests.support.scripted import FINGERPRINT, ScriptedAgent, adapter_bytes, begin_campaign, campaign_body
from tests.support.server import RunningCoordinator, running_coordinator

Enroll = Callable[..., ScriptedAgent]
OTHER_BASE = {**FINGERPRINT, "weights": sha256_hex(b"other weights")}
ALONE = {"minimum": 1}


def teach(
    operator: Operator, folder: Path, agents: Sequence[ScriptedAgent], rounds: int = 2, **changes: Any
) -> tuple[str, list[str]]:
    """Complete a campaign named taught. Returns it and the digests of its adapters: all zeros, all ones, and so on."""
    fields = {"name": "taught", "rounds": rounds, "selection": ALONE, **changes}
    campaign_id = begin_campaign(operator, folder, agents, **fields)
    train(folder, agents, range(1, rounds + 1))
    operator.wait_for(campaign_id, "completed")
    return campaign_id, digests(operator, campaign_id)


def train(folder: Path, agents: Sequence[ScriptedAgent], numbers: Iterable[int], fill: float = 1.0) -> None:
    for number in numbers:
        for agent in agents:
            lease = agent.lease("train")
            assert lease["assignment"]["round"] == number
            agent.train(adapter_bytes(folder, fill), lease)


def body(start_from: str, **changes: Any) -> dict[str, Any]:
    return campaign_body(**{"name": "tuned", "start_from": start_from, "selection": ALONE, **changes})


def create(operator: Operator, start_from: str, **changes: Any) -> Any:
    return operator.post("/v1/campaigns", body(start_from, **changes))


def refusal(operator: Operator, start_from: str, **changes: Any) -> list[tuple[str, str]]:
    """Field and message of each reason for which a campaign is refused."""
    reply = operator.http.post("/v1/campaigns", json=body(start_from, **changes))
    assert reply.status_code == 422, reply.text
    return [(each.field, each.message) for each in problem(reply).errors]


def digests(operator: Operator, campaign_id: str) -> list[str]:
    return [row["blob"]["sha256"] for row in operator.items(f"/v1/campaigns/{campaign_id}/adapters")]


def values(operator: Operator, folder: Path, sha256: str) -> set[float]:
    """Distinct values of an adapter's elements."""
    path = folder / sha256
    path.write_bytes(operator.http.get(f"/v1/blobs/{sha256}").content)
    with AdapterFile(path) as file:
        return {float(value) for name in file.tensors for value in file.read(name).reshape(-1)}


@pytest.mark.usefixtures("either_coordinator")
def test_a_campaign_starts_from_the_adapter_of_another_without_an_init_task(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll("ada"), enroll("bob")]
    taught, [*_, last] = teach(operator, tmp_path, agents)
    tuned = create(operator, "taught/final", kind="dpo", evaluation={"every": 1}, retention={"updates": 1})
    origin = {"campaign_id": taught, "campaign_name": "taught", "kind": "sft", "adapter_number": 2, "sha256": last}
    assert tuned["origins"] == [origin]
    path = f"/v1/campaigns/{tuned['id']}"
    [start] = operator.items(f"{path}/adapters")
    assert (start["blob"]["sha256"], start["stored"], start["origin"]) == (last, True, origin)
    assert (start["parent_sha256"], start["contributions"]) == (None, [])

    for agent in agents:
        agent.prepare(n_held_out=2)
    for agent in agents:
        agent.evaluate(0.7, held_out_accuracy=0.5, held_out_margin=0.0)
    leases = [agent.lease("train") for agent in agents]
    assert {lease["assignment"]["adapter"]["sha256"] for lease in leases} == {last}
    for agent, lease in zip(agents, leases, strict=True):
        agent.train(adapter_bytes(tmp_path, 5.0), lease)
    for agent in agents:
        agent.evaluate(0.6, held_out_accuracy=0.75, held_out_margin=0.1)
    assert operator.wait_for(tuned["id"], "completed")["final_adapter"] == 1
    tasks = operator.items(f"{path}/tasks")
    assert {task["kind"] for task in tasks} == {"prepare", "evaluate", "train"}
    assert "campaign-starts-from" in operator.events(tuned["id"])
    adapters = operator.items(f"{path}/adapters")
    assert [each["metrics"]["held_out_loss"] for each in adapters] == [0.7, pytest.approx(0.6)]
    assert (adapters[1]["origin"], adapters[1]["parent_sha256"]) == (None, last)
    assert values(operator, tmp_path, adapters[1]["blob"]["sha256"]) == {7.0}
    assert [found["outcome"] for found in operator.verify(tuned["id"])] == ["verified", "verified"]

    longer = create(operator, f"{tuned['id']}/best", name="longer")
    assert longer["origins"] == [
        {
            "campaign_id": tuned["id"],
            "campaign_name": "tuned",
            "kind": "dpo",
            "adapter_number": 1,
            "sha256": adapters[1]["blob"]["sha256"],
        },
        origin,
    ]
    assert operator.get(f"/v1/campaigns/{taught}")["origins"] == []
    assert operator.get(f"/v1/campaigns/{taught}/adapters/0")["origin"] is None


@pytest.mark.usefixtures("either_coordinator")
def test_a_rollback_returns_to_the_start_and_the_server_state_starts_fresh(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    agents = [enroll("ada"), enroll("bob")]
    algorithm = {"algorithm": {"name": "fedavgm"}}
    _, [_, one, _] = teach(operator, tmp_path, agents, **algorithm)
    tuned = create(operator, "taught/1", rounds=2, **algorithm)["id"]
    for agent in agents:
        agent.prepare()
    train(tmp_path, agents, (1, 2), fill=3.0)
    operator.wait_for(tuned, "completed")
    expected = digests(operator, tuned)
    assert expected[0] == one
    # with the momentum of the campaign before it would be 1 + 0.9 · 1 + 0.1 · 3
    assert values(operator, tmp_path, expected[1]) == {4.0}
    operator.post(f"/v1/campaigns/{tuned}/rollback", {"round": 0})
    assert digests(operator, tuned) == [one]
    operator.post(f"/v1/campaigns/{tuned}/resume")
    train(tmp_path, agents, (1, 2), fill=3.0)
    operator.wait_for(tuned, "completed")
    assert digests(operator, tuned) == expected
    assert [each["sha256"] for each in operator.get(f"/v1/campaigns/{tuned}")["origins"]] == [one]


@pytest.mark.usefixtures("either_coordinator")
def test_an_incompatible_start_is_refused_and_leaves_nothing(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada = enroll("ada")
    taught, _ = teach(operator, tmp_path, [ada], retention={"adapters": 1})
    operator.wait_until(
        lambda: operator.items(f"/v1/campaigns/{taught}/adapters"), lambda found: not found[1]["stored"]
    )
    operator.post("/v1/campaigns", campaign_body(name="young", selection={"labels": {"site": "nowhere"}}))
    for start_from, message in (
        ("nobody/final", "there is no campaign with the id or name nobody"),
        ("taught/7", "campaign taught has no adapter 7; its adapters are 0 to 2"),
        (
            "taught/1",
            "adapter 1 of campaign taught is no longer stored (retention.adapters: 1); still stored: 0, 2",
        ),
        (
            "taught/best",
            "no adapter of campaign taught has been evaluated yet, so none is its best; wait for that, or name an "
            "adapter by its number: its adapters are 0 to 2",
        ),
        (
            "young/final",
            "campaign young is preparing and has no final adapter; wait until it is completed, or name an adapter by "
            "its number: it has no adapter yet",
        ),
    ):
        assert refusal(operator, start_from) == [("start_from", message)]
    assert refusal(operator, "young/0") == [("start_from", "campaign young has no adapter 0; it has no adapter yet")]
    parent = "in campaign taught, whose adapter it starts from"
    for field, value, message in (
        ("base.model", "other", f"it is other here and tiny {parent}"),
        ("base.revision", "main", f"it is main here and not set {parent}"),
        ("base.quantization", "nf4", f"it is nf4 here and not set {parent}"),
        ("lora.rank", 3, f"it is 3 here and 2 {parent}"),
        ("lora.alpha", 2, f"it is 2 here and 16 {parent}"),
        ("lora.target_modules", ["v_proj", "q_proj"], f"it is q_proj, v_proj here and all-linear {parent}"),
        ("lora.freeze_a", True, f"it is true here and false {parent}"),
    ):
        section, name = field.split(".")
        changes = {"base": {"model": "tiny"}, "lora": {"rank": 2}}
        changes[section] = {**changes[section], name: value}
        assert refusal(operator, "taught/final", **changes) == [(field, message)]
    both = refusal(operator, "taught/2", base={"model": "other"}, lora={"rank": 3})
    assert [field for field, _ in both] == ["base.model", "lora.rank"]
    assert [each["name"] for each in operator.items("/v1/campaigns")] == ["young", "taught"]
    rounded = {"model": "tiny", "cpu_dtype": "bfloat16"}  # of the base, not of the adapter
    assert (
        create(operator, "taught/final", base=rounded, lora={"rank": 2, "dropout": 0.5})["origins"][0]["adapter_number"]
        == 2
    )


@pytest.mark.usefixtures("coordinator")
def test_names_mean_the_newest_other_campaign_and_may_be_used_again(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada = enroll("ada")
    first, _ = teach(operator, tmp_path, [ada])
    second, _ = teach(operator, tmp_path, [ada], rounds=1)

    def made(start_from: str, key: str) -> Any:
        return operator.post("/v1/campaigns", body(start_from) | {"name": "taught"}, **{"Idempotency-Key": key})

    third = made("taught/final", "one")  # not itself
    assert [(each["campaign_id"], each["adapter_number"]) for each in third["origins"]] == [(second, 1)]
    by_id = made(f"{first}/final", "two")
    assert [(each["campaign_id"], each["adapter_number"]) for each in by_id["origins"]] == [(first, 2)]
    operator.post(f"/v1/campaigns/{second}/rollback", {"round": 0})  # it no longer has a final adapter
    assert made("taught/final", "one")["origins"] == third["origins"]
    ended = operator.post(f"/v1/campaigns/{third['id']}/cancel")
    assert ended["final_adapter"] == 0


def test_the_start_stays_stored_when_its_own_campaign_releases_it(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada = enroll("ada")
    fields = {"name": "taught", "rounds": 4, "selection": ALONE, "retention": {"adapters": 1}}
    taught = begin_campaign(operator, tmp_path, [ada], **fields)
    train(tmp_path, [ada], [1])
    path = f"/v1/campaigns/{taught}"
    operator.wait_until(lambda: operator.get(path), lambda found: found["rounds_closed"] == 1)
    tuned = create(operator, "taught/1", selection={"minimum": 1, "labels": {"site": "east"}})["id"]
    train(tmp_path, [ada], [2, 3, 4])
    operator.wait_until(lambda: operator.items(f"{path}/adapters"), lambda found: len(found) == 5)
    operator.wait_until(
        lambda: operator.items(f"{path}/adapters"), lambda found: not any(each["stored"] for each in found[1:4])
    )
    [start] = operator.items(f"/v1/campaigns/{tuned}/adapters")
    operator.post(f"{path}/rollback", {"round": 0})
    either_coordinator.run(sweep_orphans(either_coordinator.services.storage))
    assert start["stored"]
    assert values(operator, tmp_path, start["blob"]["sha256"]) == {1.0}
    assert operator.get(f"/v1/campaigns/{tuned}")["origins"][0]["adapter_number"] == 1
    eve = enroll("eve", site="east")
    eve.prepare()
    assert eve.lease("train")["assignment"]["adapter"]["sha256"] == start["blob"]["sha256"]


async def release_later(services: Services, sha256: str) -> None:
    """Release a blob as the collection does: one transaction ends its use, and its bytes are deleted after that."""
    async with services.database.write("test") as session:
        await session.execute(update(BlobUseRow).where(BlobUseRow.sha256 == sha256).values(stored=False))


@pytest.mark.parametrize("first", ["create", "release"])
def test_the_start_is_pinned_or_reported_missing_in_either_order(
    either_coordinator: RunningCoordinator, operator: Operator, enroll: Enroll, tmp_path: Path, first: str
) -> None:
    ada = enroll("ada")
    taught, [_, one, _] = teach(operator, tmp_path, [ada])
    services = either_coordinator.services
    spec = CampaignSpec.model_validate(body(f"{taught}/1"))

    async def make() -> None:
        async with services.database.write("test") as session:
            await service.create(session, services, spec, None)

    async def create_first() -> None:
        await release_later(services, one)
        async with services.database.write("test") as session:
            await service.create(session, services, spec, None)
            await session.flush()
            going = asyncio.create_task(release_blobs(services.storage, [(BlobKind.ADAPTER, one)]))
            await asyncio.sleep(0.2)
            assert not going.done()
        await going

    async def release_first() -> None:
        await release_later(services, one)
        async with services.database.write("test") as session:
            await session.execute(select(BlobRow.sha256).where(BlobRow.sha256 == one).with_for_update())
            await services.storage.store_of(BlobKind.ADAPTER).delete(session, one)
            making = asyncio.create_task(make())
            await asyncio.sleep(0.2)
            assert not making.done()
        with pytest.raises(Invalid, match="adapter 1 of campaign taught is no longer stored"):
            await making

    either_coordinator.run(create_first() if first == "create" else release_first())
    status = operator.http.get(f"/v1/blobs/{one}").status_code
    assert status == (200 if first == "create" else 404)


@pytest.mark.usefixtures("coordinator")
def test_the_base_model_that_the_start_was_trained_on_is_required(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    ada = enroll("ada")
    teach(operator, tmp_path, [ada])
    bob, cyd = enroll("bob"), enroll("cyd")
    tuned = create(operator, "taught/final")["id"]
    ada.failure(ada.lease("prepare"), kind="data", message="no such file")
    for agent in (bob, cyd):
        agent.prepare(fingerprint=OTHER_BASE)
    paused = operator.wait_for(tuned, "paused")
    reason = "its base model differs from the one that taught/final was trained on in: weights"
    assert paused["reason"].startswith("0 of 1 agents are ready. ada: no such file; bob, cyd: " + reason)
    assert paused["fingerprint"] == FINGERPRINT
    operator.post(f"/v1/campaigns/{tuned}/resume")
    ada.prepare()
    bob.prepare(fingerprint=OTHER_BASE)  # as many as have the right base model
    cyd.prepare(fingerprint=OTHER_BASE)
    running = operator.wait_for(tuned, "running")
    assert [(part["state"], part["client_number"]) for part in running["participants"]] == [
        ("prepared", 0),
        ("mismatched", None),
        ("mismatched", None),
    ]


@pytest.mark.deep
def test_a_chain_goes_on_from_a_backup(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    settings = settings_at(request, tmp_path / "source", "sqlite", "files")
    other = settings_at(request, tmp_path / "target", "postgres", "database")
    with running_coordinator(settings) as running:
        operator = Operator(running.url, running.key)
        ada = ScriptedAgent(running.url, operator.token(), "ada")
        _, [*_, last] = teach(operator, tmp_path, [ada])
        tuned = create(operator, "taught/final")
        manifest = back_up(settings, tmp_path / "backup.tar", with_key=True)
    assert (manifest.campaigns, manifest.adapters) == (2, 3)
    restore(other, tmp_path / "backup.tar")
    with running_coordinator(other) as restored:
        for each in (operator, ada):
            each.http.base_url = restored.url
        assert operator.get(f"/v1/campaigns/{tuned['id']}")["origins"] == tuned["origins"]
        ada.prepare()
        train(tmp_path, [ada], [1], fill=2.5)
        operator.wait_for(tuned["id"], "completed")
        start, end = digests(operator, tuned["id"])
        assert start == last
        assert values(operator, tmp_path, end) == {4.5}
    for each in (operator, ada):
        each.http.close()
