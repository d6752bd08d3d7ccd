"""``fedloom agent pull``, and what an owner reads of its own losses beside it."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.record.bookings import Work, WorkKind
from fedloom import Client
from fedloom.adapters.local import read_adapter_folder
from shared.digest import sha256_file
from shared.metrics import HELD_OUT_LOSS
from tests.cli.owner.conftest import OwnersAgent
from tests.support.ledgers import ledger_of

QUICK = "[network]\nwait_s = 0.3\n"
"""News of a campaign come with the reply to a request for work."""
FILES = {"adapter_model.safetensors", "adapter_config.json", "README.md", "fedloom.json"}


@pytest.fixture
def owner(new_owner: Callable[..., OwnersAgent]) -> OwnersAgent:
    return new_owner(settings=QUICK)


def completed(owner: OwnersAgent, **changes: Any) -> str:
    """A campaign that is over, with its adapters evaluated here. The agent has stopped after telling its end."""
    with owner.running():
        campaign_id = owner.create(**{"evaluation": {"every": 1}, **changes})
        owner.asked(campaign_id)
        assert owner.approves(campaign_id).code == 0
        owner.operator.wait_for(campaign_id, "completed", timeout_s=60)
        owner.process.process.wait_to_print("fedloom agent pull small")
        assert owner.process.process.stop() == 0
    return campaign_id


def set_own_losses(owner: OwnersAgent, campaign_id: str, *losses: float) -> None:
    """Have other losses measured here than the recorded child gives, by adapter."""
    for number, loss in enumerate(losses):
        work = Work(campaign_id, WorkKind.EVALUATE, number, 0, "", "")
        owner.record.measured.keep(work, {HELD_OUT_LOSS: loss, "held_out_rows": 2})


@pytest.fixture(autouse=True)
def _here(tmp_path: Path) -> Iterator[None]:
    """Folders without a path are written in a folder of the test."""
    before = Path.cwd()
    (tmp_path / "here").mkdir()
    os.chdir(tmp_path / "here")
    yield
    os.chdir(before)


@pytest.mark.deep
def test_the_final_adapter_is_what_an_operator_pulls_and_says_nothing_of_own_rows(
    owner: OwnersAgent, tmp_path: Path
) -> None:
    campaign_id = completed(owner)
    os.umask(0o022)
    ran = owner.says("pull", "small")
    assert (ran.code, ran.err) == (0, "")
    wrote, own = ran.out.splitlines()
    assert wrote.startswith("wrote adapter 2 of small to small-adapter-2 (final, best, best-for-me, ")
    assert own == (
        "own held-out loss 0.6667 nats a token, 33% better than after round 1 (1.0000) and 67% better than at the "
        "start (2.0000)"
    )
    folder = Path("small-adapter-2")
    assert {path.name for path in folder.iterdir()} == FILES
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}, "it is made to be passed on"
    assert {path.stat().st_mode & 0o077 for path in owner.home.rglob("ledger/*")} == {0}
    with Client(owner.url, owner.operator.key) as client:
        client.pull_adapter(campaign_id, "final", tmp_path / "operators")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (folder / name).read_bytes() == (tmp_path / "operators" / name).read_bytes()
    mine, theirs = read_adapter_folder(folder).lineage, read_adapter_folder(tmp_path / "operators").lineage
    assert mine is not None
    assert theirs is not None
    assert mine.model_copy(update={"protection": None, "metrics": []}) == theirs.model_copy(
        update={"protection": None, "metrics": []}
    )
    assert mine.spec == owner.asked(campaign_id).spec
    assert (mine.protection, mine.metrics) == (None, [])
    assert "0.6667" not in "".join(path.read_text(errors="replace") for path in folder.iterdir())
    card = " ".join((folder / "README.md").read_text().split())
    assert "each round has at least 1 update; this card was written by one of them" in card
    assert "There was no differential privacy" in card
    kinds = [getattr(entry.says, "purpose", None) for entry in ledger_of(owner.home)]
    assert kinds[-3:] == ["list of adapters", "what the coordinator signed", "pull of an adapter"]
    assert owner.says("ledger", "verify").code == 0


@pytest.mark.deep
def test_the_terminal_tells_each_evaluation_and_the_end_with_own_losses_by_round(owner: OwnersAgent) -> None:
    campaign_id = completed(owner)
    log = owner.process.process.printed()
    assert "adapter 0 on 2 held-out rows: held-out loss 2.0000 nats a token\n" in log
    assert (
        "adapter 1 on 2 held-out rows: held-out loss 1.0000 nats a token, 50% better than at the start (2.0000)" in log
    )
    last = "held-out loss 0.6667 nats a token, 33% better than after round 1 (1.0000) and 67% better than at the start"
    assert f"adapter 2 on 2 held-out rows: {last} (2.0000)" in log
    end = log.partition("campaign small: completed after 2 rounds; its update of round 2 weighed 100%\n")[2]
    lines = [line.partition(" ")[2] for line in end.splitlines()]
    assert lines[:6] == [
        "              train loss  held-out loss  than the start",
        "  start                          2.0000",
        "  round 1         1.5000         1.0000  50% better",
        "  round 2         1.5000         0.6667  best, 67% better",
        "  in nats a token; lower is better",
        "adapter 2 is the best for this owner, 33% better than after round 1 (1.0000) and 67% better than at the start "
        "(2.0000); get it with:",
    ]
    command = lines[6].strip()
    assert command == f"fedloom agent pull small --adapter best-for-me --home {owner.home}"
    assert owner.says("pull", *command.split()[3:-2]).code == 0
    shown = owner.says("campaigns", campaign_id).out
    assert "own losses" in shown
    assert "round 2         1.5000         0.6667  best, 67% better" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


@pytest.mark.deep
def test_best_for_me_is_by_own_losses_and_says_if_a_better_one_is_gone(owner: OwnersAgent) -> None:
    campaign_id = completed(owner, rounds=3, retention={"adapters": 1})
    stored = [each["number"] for each in owner.operator.items(f"/v1/campaigns/{campaign_id}/adapters", stored=True)]
    assert stored == [0, 2, 3]
    set_own_losses(owner, campaign_id, 2.0, 0.5, 2.5, 3.0)
    ran = owner.says("pull", "small", "--adapter", "best-for-me", "--json")
    assert (ran.code, ran.err) == (0, "")
    told = json.loads(ran.out)
    assert (told["adapter"]["number"], told["own_metrics"][HELD_OUT_LOSS]) == (0, 2.0)
    assert told["note"] == "adapter 1 was better here (0.5000), and is no longer stored"
    assert Path(told["folder"]) == Path("small-adapter-0").absolute()
    assert sha256_file(Path("small-adapter-0/adapter_model.safetensors")) == told["adapter"]["blob"]["sha256"]
    best = owner.says("pull", "small", "--adapter", "best")
    assert "wrote adapter 3 of small" in best.out, "by the mean that the coordinator has"
    assert "50% worse than at the start (2.0000)" in best.out
    gone = owner.says("pull", "small", "--adapter", "1")
    assert gone.code == 5
    assert "campaign small has no adapter 1: its weights are no longer stored; stored are 0, 2-3" in gone.err
    never = owner.says("pull", "small", "--adapter", "7")
    assert (never.code, "there was none of this number; stored are 0, 2-3" in never.err) == (5, True)


@pytest.mark.deep
def test_after_a_rollback_bytes_decide_and_not_numbers(owner: OwnersAgent) -> None:
    campaign_id = completed(owner)
    owner.operator.post(f"/v1/campaigns/{campaign_id}/rollback", {"round": 1})
    newest = owner.says("pull", "small")
    assert newest.code == 0
    assert newest.err == "the campaign is not over; this is its newest adapter\n"
    assert "wrote adapter 1 of small to small-adapter-1" in newest.out
    final = owner.says("pull", "small", "--adapter", "final")
    assert (final.code, "has no final adapter: it has not ended; stored are 0-1" in final.err) == (5, True)
    best = owner.says("pull", "small", "--adapter", "best-for-me", "-o", "mine")
    assert best.err == "adapter 2 was better here (0.6667), and is no longer stored\n"
    assert read_adapter_folder(Path("mine")).name == "small #1"
    with owner.running():
        assert owner.operator.campaign(campaign_id, "resume").is_success
        owner.operator.wait_for(campaign_id, "completed", timeout_s=60)
        owner.process.process.wait_to_print("rounds are done again")
    assert owner.says("campaigns", campaign_id).out.count("round 2 ") == 1
    assert {each.round: each.history for each in owner.record.measured.standing(campaign_id, WorkKind.EVALUATE)} == {
        0: 0, 1: 0, 2: 1,
    }  # fmt: skip


@pytest.mark.deep
def test_an_owner_who_paused_left_or_reports_nothing_pulls_too(owner: OwnersAgent) -> None:
    owner.write_settings(QUICK, policy='report = "none"\n')
    campaign_id = completed(owner)
    log = owner.process.process.printed()
    reason = 'an evaluation reports losses, and policy.report = "none"'
    assert log.count(f"this agent takes part in no evaluation: {reason}; so no own losses are known") == 1
    assert f"campaign small: no own losses are known: {reason}" in log
    assert f"get its adapter with: fedloom agent pull small --home {owner.home}" in log
    assert f"on held-out rows unknown: {reason}" in " ".join(owner.says("campaigns", campaign_id).out.split())
    none = owner.says("pull", "small", "--adapter", "best-for-me")
    assert none.code == 5
    assert f"no best-for-me adapter: none was evaluated here: {reason}; take --adapter best" in none.err
    best = owner.says("pull", "small", "--adapter", "best")
    assert best.code == 5
    assert "has no best adapter: none has been evaluated by what the campaign decides by" in best.err
    assert owner.says("leave", "small").code == 0
    with owner.running():  # beside the agent
        assert owner.says("pull", campaign_id).code == 0


@pytest.mark.deep
def test_a_folder_that_is_there_is_replaced_only_by_force(owner: OwnersAgent) -> None:
    completed(owner)
    Path("mine").mkdir()
    assert owner.says("pull", "small", "-o", "mine").code == 0, "an empty one is nobody's"
    refused = owner.says("pull", "small", "--adapter", "0", "-o", "mine")
    assert (refused.code, "choose another, or replace it with --force" in refused.err) == (1, True)
    assert read_adapter_folder(Path("mine")).name == "small #2"
    assert owner.says("pull", "small", "--adapter", "0", "-o", "mine", "--force").code == 0
    assert read_adapter_folder(Path("mine")).name == "small #0"
    assert "No row of any owner is in it" in Path("mine/README.md").read_text()
    assert [path.name for path in Path().iterdir()] == ["mine"], "nothing is left beside it"


@pytest.mark.deep
def test_refusals_say_what_to_do_and_leave_nothing(
    owner: OwnersAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    campaign_id = completed(owner)
    unknown = owner.says("pull", "elsewhere")
    assert (unknown.code, "this agent knows no campaign with the id, the name" in unknown.err) == (5, True)
    wrong = owner.says("pull", "small", "--adapter", "newest")
    assert (wrong.code, "must be a number, final, best or best-for-me" in wrong.err) == (2, True)
    with owner.without_coordinator():
        away = owner.says("pull", "small")
    assert (away.code, "cannot be reached" in away.err) == (3, True)
    owner.write_settings(QUICK, policy="max_download_bytes = 10\n")
    large = owner.says("pull", "small")
    assert (large.code, "and policy.max_download_bytes = 10" in large.err) == (5, True)
    owner.write_settings(QUICK)
    with monkeypatch.context() as full:
        full.setattr("agent.network.pulling.shutil.disk_usage", lambda _: type("Usage", (), {"free": 9}))
        no_room = owner.says("pull", "small")
    assert (no_room.code, "the disk is too full" in no_room.err) == (1, True)
    assert list(Path().iterdir()) == []
    owner.operator.post("/v1/agents/ada/revoke")
    revoked = owner.says("pull", "small")
    assert (revoked.code, "was revoked by the operator" in revoked.err) == (4, True)
    identity = json.loads((owner.home / "identity.json").read_text())
    (owner.home / "identity.json").write_text(json.dumps(identity | {"agent_id": "another"}))
    again = owner.says("pull", campaign_id)
    assert (again.code, "this agent enrolled again since it took part" in again.err) == (5, True)


def test_a_campaign_that_only_waits_gives_nothing(waiting: tuple[OwnersAgent, str]) -> None:
    owner, campaign_id = waiting
    ran = owner.says("pull", campaign_id)
    assert ran.code == 5
    assert "this agent gets no adapter of campaign small: by the coordinator's word it was in none" in ran.err
    assert "own losses" not in owner.says("campaigns", campaign_id).out
