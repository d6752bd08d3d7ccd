"""Every command against a real coordinator."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from sqlalchemy import text

from fedloom import Client
from fedloom.adapters.lineage import Lineage
from fedloom.errors import CorruptDownload
from fedloom.transport import Transport
from shared import algorithms
from shared.adapters.files import AdapterFile
from shared.campaign.spec import CampaignSpec
from shared.digest import sha256_file
from shared.wire.base import BlobRef
from shared.wire.tasks.results import Fingerprint
from shared.wire.verification import VerificationDetail
from tests.cli.conftest import Campaign, Run
from tests.support.operator import Operator
from tests.support.scripted import FINGERPRINT, ScriptedAgent, adapter_bytes, campaign_body, slots_bytes
from tests.support.server import RunningCoordinator

# --- campaigns


def test_create_and_show_say_that_updates_are_kept(fedloom: Run, campaign_file: Path) -> None:
    campaign_file.write_text(campaign_file.read_text() + "retention: {updates: 2}\n")
    kept = "keeps each agent's update for 2 rounds (retention.updates)"
    assert f"it {kept}, which owners must allow" in fedloom("campaign", "create", campaign_file).out
    assert kept in fedloom("campaign", "show", "small").out


def test_create_list_show_pause_resume_cancel(fedloom: Run, campaign_file: Path) -> None:
    ran = fedloom("campaign", "create", campaign_file)
    assert ran.code == 0
    assert "created campaign small" in ran.out
    assert "fedloom campaign watch small" in ran.out
    assert "preparing" in fedloom("campaign", "list").out
    for command, state in (("pause", "paused"), ("resume", "preparing"), ("cancel", "cancelled")):
        assert fedloom("campaign", command, "small").out == f"small is {state}\n"
        assert f"small  {state}" in fedloom("campaign", "show", "small").out
    again = fedloom("campaign", "cancel", "small")
    assert again.code == 1
    assert again.err == "fedloom: a campaign that is cancelled cannot be cancelled\n"


def test_creating_again_with_the_same_key_makes_no_second_campaign(fedloom: Run, campaign_file: Path) -> None:
    ids = {
        json.loads(fedloom("campaign", "create", campaign_file, "--idempotency-key", "nightly", "--json").out)["id"]
        for _ in range(2)
    }
    assert len(ids) == 1
    campaign_file.write_text(campaign_file.read_text().replace("name: small", "name: other"))
    other = fedloom("campaign", "create", campaign_file, "--idempotency-key", "nightly")
    assert other.code == 1
    assert "idempotency key" in other.err


def test_a_name_means_the_newest_campaign_of_that_name(fedloom: Run, campaign_file: Path) -> None:
    ids = [json.loads(fedloom("campaign", "create", campaign_file, "--json").out)["id"] for _ in range(2)]
    assert json.loads(fedloom("campaign", "show", "small", "--json").out)["campaign"]["id"] == ids[1]
    assert json.loads(fedloom("campaign", "show", ids[0], "--json").out)["campaign"]["id"] == ids[0]
    assert [each["id"] for each in json.loads(fedloom("campaign", "list", "--json").out)] == ids[::-1]
    assert json.loads(fedloom("campaign", "list", "--name", "other", "--json").out) == []


def test_show_lists_agents_at_work_with_their_progress(fedloom: Run, campaign: Campaign, operator: Operator) -> None:
    operator.wait_until(lambda: fedloom("campaign", "show", "small").out, lambda shown: "to prepare" in shown, 10)
    campaign.prepare()
    campaign.evaluate(2.0)
    ada, bob = campaign.agents
    lease = ada.lease("train")
    ada.renew(lease, phase="training", done=3, total=10, loss=2.34567, tokens_per_s=1234.4)
    bob.failure(bob.lease("train"), kind="data", message="no such file; say where it is in agent.toml")
    shown = fedloom("campaign", "show", "small").out
    words = " ".join(shown.split())
    for line in ("ada train 1 training 3/10 2.3457 1234", "0 start 2.0000 *", "1 open 0/2"):
        assert line in words
    assert "bob, train task failed (data): no such file" in shown
    assert max(map(len, shown.splitlines())) <= 80


LIVE = {"tokens_per_s": 12345.0, "seconds_left": 725.0, "peak_memory_bytes": 11 * 10**9, "gpu_utilization": 0.875}


def test_show_and_watch_have_what_an_owner_reports_live(
    fedloom: Run, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign.prepare()
    campaign.evaluate(2.0)
    ada, bob = campaign.agents
    ada.renew(ada.lease("train"), phase="training", done=3, total=10, loss=2.5, **LIVE)
    bob.renew(bob.lease("train"), phase="loading model")
    shown = fedloom("campaign", "show", "small").out
    assert max(map(len, shown.splitlines())) <= 80
    assert "AGENT TASK ROUND DOING DONE LOSS TOKENS/S LEFT MEMORY GPU" in " ".join(shown.split())
    assert "ada train 1 training 3/10 2.5000 12345 12 min 11.0 GB 88%" in " ".join(shown.split())
    assert "bob train 1 loading model" in " ".join(shown.split())
    monkeypatch.setenv("FORCE_COLOR", "1")
    fedloom("campaign", "pause", "small")
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", fedloom("campaign", "watch", "small").out)
    assert "3/10 12 min 2.5000 12345 11.0 GB 88%" in " ".join(drawn.split())
    assert max(map(len, drawn.splitlines())) <= 80


def test_show_of_a_completed_campaign_says_how_to_get_the_adapter(run: Run, finished: Campaign) -> None:
    shown = run("campaign", "show", finished.id).out
    assert "small  completed  1 of 1 rounds closed" in shown
    assert "fedloom adapter pull small --out small-adapter" in shown
    assert "1 closed 2/2 1.5000 1.5000 * 5e-05" in " ".join(shown.split())
    page = json.loads(run("campaign", "show", "small", "--json").out)
    assert page["held_out"] == {"held_out_loss": {"0": 2.0, "1": 1.5}}
    assert page["train_loss"] == {"1": 1.5}
    assert page["rounds"][0]["contributors"] == [0, 1]


def test_create_and_wait_for_the_end(fedloom: Run, campaign_file: Path, operator: Operator) -> None:
    # no agent takes part, so only the operator can end it
    import threading

    def cancel() -> None:
        (created,) = operator.wait_until(lambda: operator.items("/v1/campaigns"), bool)
        operator.post(f"/v1/campaigns/{created['id']}/cancel")

    thread = threading.Thread(target=cancel)
    thread.start()
    ran = fedloom("campaign", "create", campaign_file, "--wait")
    thread.join()
    assert ran.code == 1
    assert "cancelled" in ran.out


def test_watch_prints_plain_lines_without_a_terminal(run: Run, finished: Campaign) -> None:
    ran = run("campaign", "watch", "small")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert "campaign-created  name=small rounds=1" in lines[0]
    assert any("task-done         agent=ada kind=train round=1" in line for line in lines)
    assert "adapter=1 clients=2 held-out loss 1.5000 nats a token" in ran.out
    assert lines[-1].startswith("completed; get the adapter with: fedloom adapter pull small")


def test_watch_as_json_prints_events_one_a_line_without_gaps(run: Run, finished: Campaign) -> None:
    ran = run("campaign", "watch", finished.id, "--json")
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "campaign-moved"


def test_watch_draws_on_a_terminal(fedloom: Run, campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    campaign.prepare()
    campaign.evaluate(2.0)
    ada = campaign.agents[0]
    ada.renew(ada.lease("train"), phase="training", done=3, total=10, loss=2.5, tokens_per_s=99.0)
    fedloom("campaign", "pause", "small")
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", fedloom("campaign", "watch", "small").out)
    for part in (
        "small  paused  0 of 1 rounds",
        "held-out loss 2.0000 nats a token",
        "training  ━━━",
        "3/10  2.5000",
        "paused by",
    ):
        assert part in drawn


def test_watch_exits_with_1_unless_the_campaign_completes(fedloom: Run, campaign: Campaign) -> None:
    fedloom("campaign", "pause", "small")
    paused = fedloom("campaign", "watch", "small")
    assert paused.code == 1
    assert "paused (paused by the operator); continue with: fedloom campaign resume small" in paused.out
    fedloom("campaign", "cancel", "small")
    assert fedloom("campaign", "watch", "small").code == 1


def test_an_interrupted_verify_continues_at_the_coordinator(
    run: Run, finished: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as interrupted:

        def interrupt(_seconds: float) -> None:
            raise KeyboardInterrupt

        interrupted.setattr("fedloom.verifications.time.sleep", interrupt)
        interrupted.setattr("fedloom.verifications.read", lambda *_: interrupt(0))
        ran = run("campaign", "verify", "small")
    assert (ran.code, ran.out) == (130, "")
    last = ran.err.splitlines()[-1]
    match = re.fullmatch(r"  fedloom campaign verify small --job (\w+)", last)
    assert match, ran.err
    continued = run("campaign", "verify", "small", "--job", match[1])
    assert continued.code == 0
    assert continued.out.endswith("1 verified, 1 not kept, 0 wrong\n")
    assert [job.id for job in Client().verifications(finished.id)].count(match[1]) == 1
    assert run("campaign", "verify", "small", "--job", "nobody").code == 5
    assert run("campaign", "verify", "small", "--job", match[1], "--round", 1).code == 2


def test_verify_shows_its_progress_on_a_terminal(run: Run, finished: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    ran = run("campaign", "verify", "small")
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ran.err)
    assert ran.code == 0
    assert "verifying rounds" in drawn
    assert "2/2" in drawn


def test_verify_of_a_cancelled_verification_fails(
    run: Run, finished: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"id": "7", "campaign_id": "1", "state": "cancelled", "n_rounds": 4, "n_done": 0, "outcomes": []}
    job = VerificationDetail.model_validate({**body, "created_at": "2026-01-01T00:00:00Z"})
    monkeypatch.setattr("fedloom.verifications.read", lambda *_: job)
    ran = run("campaign", "verify", "small", "--job", "7")
    assert ran.code == 1
    assert ran.out.endswith("0 verified, 0 not kept, 0 wrong\ncancelled after 0 of 4 rounds\n")


def test_verify_recomputes_rounds_and_lists_those_it_could_not(
    fedloom: Run, completed: Campaign, coordinator: RunningCoordinator
) -> None:
    ran = fedloom("campaign", "verify", "small")
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert lines[0] == "ROUND OUTCOME ADAPTER REASON"
    assert lines[1].startswith("0 verified ")
    assert lines[2].startswith("1 not-kept ")
    assert lines[-1] == "1 verified, 1 not kept, 0 wrong"
    assert ran.code == 0

    async def spoil() -> None:
        async with coordinator.services.database.write("test") as session:
            await session.execute(text("UPDATE blob_chunks SET data = zeroblob(length(data))"))

    coordinator.run(spoil())
    ran = fedloom("campaign", "verify", "small", "--round", "1", "--json")
    [outcome] = json.loads(ran.out)
    assert (outcome["round"], outcome["outcome"], ran.code) == (1, "corrupt", 1)
    printed = fedloom("campaign", "verify", "small").out
    assert "2 wrong\ngo back to one that is right with: fedloom campaign rollback" in printed
    assert max(map(len, printed.splitlines())) <= 80
    missing = fedloom("campaign", "verify", "small", "--round", "7")
    assert (missing.code, missing.err) == (5, "fedloom: there is no round 7\n")


def test_rollback_says_what_it_did_and_what_comes_next(fedloom: Run, completed: Campaign) -> None:
    nothing = fedloom("campaign", "rollback", "small", "--round", 1)
    assert nothing.code == 2
    assert "round: there is nothing to undo after round 1" in nothing.err
    assert fedloom("campaign", "rollback", "small").code == 2
    assert fedloom("campaign", "rollback", "small", "--round", 0).out == (
        "small is rolled back to round 0 and paused\ncontinue with: fedloom campaign resume small\n"
    )
    shown = fedloom("campaign", "show", "small").out
    assert "small  paused  0 of 1 rounds closed\nrolled back to round 0 by the operator\n" in shown
    watched = fedloom("campaign", "watch", "small")
    assert watched.code == 1
    [dropped] = [line for line in watched.out.splitlines() if "round-rolled-back" in line]
    assert dropped.endswith(" contributors=ada,bob held-out loss 1.5000 nats a token")
    assert "campaign-rolled-back round=0 adapter_sha256=" in watched.out
    assert (
        "paused (rolled back to round 0 by the operator); continue with: fedloom campaign resume small\n" in watched.out
    )
    assert fedloom("campaign", "resume", "small").code == 0
    completed.train()
    completed.evaluate(1.25)
    completed.operator.wait_for(completed.id, "completed")
    assert "1.2500 *" in " ".join(fedloom("campaign", "show", "small").out.split())


def test_a_campaign_finishes_early(
    fedloom: Run, agents: list[ScriptedAgent], operator: Operator, tmp_path: Path
) -> None:
    campaign = Campaign(operator, agents, tmp_path, rounds=9)
    refused = fedloom("campaign", "finish", "small")
    assert (refused.code, refused.err) == (
        1,
        "fedloom: small has no trained adapter to finish with: it is preparing; cancel it instead\n",
    )
    campaign.prepare()
    campaign.evaluate(2.0)
    campaign.train()
    campaign.evaluate(1.5)
    path = f"/v1/campaigns/{campaign.id}"
    operator.wait_until(lambda: operator.get(path)["best_adapter"], lambda best: best == 1)
    assert fedloom("campaign", "finish", "small").out == "small is finishing\n"
    operator.wait_for(campaign.id, "completed")
    assert "finished by the operator after round 1 of 9" in fedloom("campaign", "show", "small").out
    assert "campaign-ends-early round=1 rounds=9 dropped=2" in fedloom("campaign", "watch", "small").out
    assert json.loads(fedloom("campaign", "finish", "small", "--json").out)["final_adapter"] == 1


def test_a_restart_of_the_algorithm_shows_in_watch(
    fedloom: Run, agents: list[ScriptedAgent], operator: Operator, tmp_path: Path
) -> None:
    campaign = Campaign(operator, agents, tmp_path, algorithm={"name": "scaffold"}, rounds=2)
    campaign.prepare()
    campaign.evaluate(2.0)
    for number in (1, 2):
        for agent in agents:
            agent.train(
                adapter_bytes(tmp_path, 4.0),
                extras=slots_bytes(tmp_path, 1.0, "delta_c"),
                client_state_lost=(agent.name, number) == ("bob", 2),
            )
        campaign.evaluate(1.5)
    operator.wait_for(campaign.id, "completed")
    assert "algorithm-restarted round=2 agents=bob" in fedloom("campaign", "watch", "small").out


# --- adapters


def test_pulled_folder_holds_weights_configuration_and_card(run: Run, finished: Campaign, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    ran = run("adapter", "pull", "small", "--out", out)
    assert ran.code == 0, ran.err
    assert f"wrote adapter 1 of small to {out}" in ran.out
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "fedloom.json",
    ]
    assert [path.name for path in out.parent.iterdir()] == ["folder"]
    with AdapterFile(out / "adapter_model.safetensors") as file:
        for name in file.tensors:
            np.testing.assert_array_equal(file.read(name), np.float32(("lora_A" in name) + 0.75 * 4 + 0.25 * 8))
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (2, 4, ["q_proj"])
    lineage = Lineage.model_validate_json((out / "fedloom.json").read_text())
    assert (lineage.campaign_name, lineage.adapter_number, str(*lineage.metrics)) == (
        "small",
        1,
        "held-out loss 1.5000 nats a token",
    )
    assert lineage.sha256 == sha256_file(out / "adapter_model.safetensors")
    assert lineage.fingerprint == Fingerprint.model_validate(FINGERPRINT)
    card = (out / "README.md").read_text()
    assert "| 0 | ada | 30 | 0.7500 |" in card
    assert "2 clients trained it in one round of at least 2 updates" in card
    assert (lineage.protection.n_rounds, lineage.protection.n_clients, lineage.protection.least_updates) == (1, 2, 2)


def test_pull_refuses_a_folder_that_holds_something_unless_forced(run: Run, finished: Campaign, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert run("adapter", "pull", "small", "--out", out, "--adapter", "0").code == 0  # an empty folder is accepted
    (out / "mine.txt").write_text("precious")
    ran = run("adapter", "pull", "small", "--out", out)
    assert ran.code == 1
    assert "--force" in ran.err
    assert (out / "mine.txt").read_text() == "precious"
    assert run("adapter", "pull", "small", "--out", out, "--force").code == 0
    assert not (out / "mine.txt").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(("which", "number"), [("final", 1), ("best", 1), ("latest", 1), ("0", 0)])
def test_pull_by_number_or_by_word(run: Run, finished: Campaign, tmp_path: Path, which: str, number: int) -> None:
    ran = run("adapter", "pull", "small", "--out", tmp_path / "out", "--adapter", which, "--json")
    assert json.loads(ran.out)["adapter"]["number"] == number


def test_a_missing_adapter(fedloom: Run, campaign: Campaign, tmp_path: Path) -> None:
    for which, says in (("final", "has no final adapter: it is preparing"), ("7", "has no adapter 7: it is preparing")):
        ran = fedloom("adapter", "pull", "small", "--out", tmp_path / "out", "--adapter", which)
        assert ran.code == 5
        assert says in ran.err
    assert not (tmp_path / "out").exists()
    assert "no adapters yet" in fedloom("adapter", "list", "small").out


def test_a_download_that_fails_leaves_nothing(
    run: Run, finished: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def corrupt(transport: Transport, blob: BlobRef, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise CorruptDownload(blob.sha256)

    monkeypatch.setattr("fedloom.client.download_blob", corrupt)
    (tmp_path / "out").mkdir()
    ran = run("adapter", "pull", "small", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "does not match the digest of blob" in ran.err
    assert list((tmp_path / "out").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_adapter_list_marks_the_final_and_the_best(run: Run, finished: Campaign) -> None:
    listed = run("adapter", "list", "small").out.splitlines()
    assert "1.5000" in listed[2]
    assert listed[2].rstrip().endswith("final, best")
    assert len(json.loads(run("adapter", "list", "small", "--json").out)) == 2


def test_a_chain_is_shown_and_recorded_in_the_pulled_folder(
    fedloom: Run, completed: Campaign, campaign_file: Path, tmp_path: Path
) -> None:
    written = yaml.safe_load(campaign_file.read_text())
    for name, start_from in (("next", "small/final"), ("last", "next/0"), ("lost", "nobody/final")):
        (tmp_path / name).write_text(yaml.safe_dump({**written, "name": name, "start_from": start_from}))
    for name in ("next", "last"):
        assert fedloom("campaign", "create", tmp_path / name).code == 0
    shown = " ".join(fedloom("campaign", "show", "last").out.split())
    assert "starts from adapter 0 of next (sft, " in shown
    start = json.loads(fedloom("campaign", "show", "last", "--json").out)["campaign"]["spec"]["start_sha256"]
    assert f"start SHA-256 {start}" in shown
    assert ", which started from adapter 1 of small (sft, " in shown
    watched = fedloom("campaign", "cancel", "last"), fedloom("campaign", "watch", "last")
    assert "campaign-starts-from campaign=next" in watched[1].out
    assert fedloom("adapter", "pull", "last", "--adapter", "0", "--out", tmp_path / "pulled").code == 0
    lineage = Lineage.model_validate_json((tmp_path / "pulled" / "fedloom.json").read_text())
    assert [(origin.campaign_name, origin.adapter_number) for origin in lineage.origins] == [("next", 0), ("small", 1)]
    assert {origin.sha256 for origin in lineage.origins} == {lineage.sha256}
    assert lineage.origins[1].campaign_id == completed.id
    card = (tmp_path / "pulled" / "README.md").read_text()
    assert "| Started from | adapter 0 of `next` (`" in card
    assert f"| which started from | adapter 1 of `small` (`{completed.id}`, sft), `{lineage.sha256}` |" in card
    refused = fedloom("campaign", "create", tmp_path / "lost")
    assert refused.code == 2
    assert "start_from: there is no campaign with the id or name nobody" in refused.err


# --- agents, tokens, algorithms, storage


def test_agents_are_listed_shown_and_revoked(fedloom: Run, agents: list[ScriptedAgent]) -> None:
    listed = fedloom("agent", "list").out
    assert "site=north" in listed
    assert json.loads(fedloom("agent", "show", "ada", "--json").out)["id"] == agents[0].identity["agent_id"]
    assert "site=north" in fedloom("agent", "show", agents[0].identity["agent_id"]).out
    assert fedloom("agent", "revoke", "ada").out == "agent ada is revoked\n"
    assert "revoked" in fedloom("agent", "list").out
    missing = fedloom("agent", "show", "eve")
    assert (missing.code, missing.err) == (5, "fedloom: there is no agent eve\n")


def test_the_list_of_tokens_tells_which_can_still_be_used(
    fedloom: Run, operator: Operator, coordinator: RunningCoordinator
) -> None:
    coordinator.clock.move(-5 * 86400)
    operator.token(note="late", expires_in_s=86400)
    coordinator.clock.move(5 * 86400)
    operator.token(note="open", expires_in_s=3 * 86400 + 60)
    name = "north-hospital-paediatrics-and-neonatology-ward-17-second-floor"
    ScriptedAgent(coordinator.url, operator.token(note="used"), name)
    lines = fedloom("token", "list").out.splitlines()
    assert max(map(len, lines)) <= 80
    at = lines[0].index("EXPIRES")
    shown = {line.split()[-1]: line[at:].split("  ")[0].strip() for line in lines[1:] if line[:at].strip()}
    assert shown == {"open": "in 3 d", "late": "expired", "used": ""}


def test_tokens_are_made_listed_and_deleted(fedloom: Run, coordinator: RunningCoordinator) -> None:
    ran = fedloom("token", "create", "--label", "site=north", "--note", "for ada")
    token = ran.out.strip()
    assert len(token) > 20
    assert f"fedloom agent enroll --coordinator {coordinator.url}\n" in ran.err
    assert token not in ran.err
    listed = fedloom("token", "list").out
    assert "site=north" in listed
    assert "for ada" in listed
    assert token not in listed
    assert ScriptedAgent(coordinator.url, token, "ada").identity["labels"] == {"site": "north"}
    made = json.loads(fedloom("token", "create", "--days", "1", "--json").out)
    assert made["token"]
    assert fedloom("token", "delete", made["id"]).code == 0
    assert fedloom("token", "delete", made["id"]).code == 5
    assert [token["id"] for token in json.loads(fedloom("token", "list", "--json").out)] != [made["id"]]


def test_algorithms_are_listed_and_shown(fedloom: Run) -> None:
    assert "fedavg" in fedloom("algorithm", "list").out
    assert "It has no parameters" in fedloom("algorithm", "show", "fedavg").out
    shown = fedloom("algorithm", "show", "fedadam").out
    assert "stored by the coordinator  m, v" in shown
    assert "beta1      0.9      at least 0 and below 1  Decay" in shown
    [line] = [line for line in shown.splitlines() if "algorithm: {" in line]
    written = CampaignSpec.model_validate(campaign_body(**yaml.safe_load(line)))
    assert written.algorithm.params == algorithms.find("fedadam").params().model_dump()
    assert json.loads(fedloom("algorithm", "show", "fedavg", "--json").out)["name"] == "fedavg"
    assert fedloom("algorithm", "show", "fedavgg").code == 5


def test_storage_shows_what_is_stored(run: Run, finished: Campaign) -> None:
    assert "adapter" in run("storage").out
    assert json.loads(run("storage", "--json").out)["n_blobs"] == 2


# --- authorisation

WHERE = "set FEDLOOM_KEY to the operator's key, or FEDLOOM_KEY_FILE to its file"


def test_a_wrong_key_and_an_agents_key_are_turned_away(
    fedloom: Run, agents: list[ScriptedAgent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDLOOM_KEY", "nobody")
    wrong = fedloom("campaign", "list")
    assert wrong.code == 4
    assert wrong.err.startswith("fedloom: unknown key: set FEDLOOM_KEY to a key of this coordinator's operator")
    monkeypatch.delenv("FEDLOOM_KEY")
    missing = fedloom("campaign", "list")
    assert (missing.code, missing.err) == (4, f"fedloom: no key: {WHERE}\n")
    monkeypatch.setenv("FEDLOOM_KEY", agents[0].identity["secret"])
    agents_key = fedloom("campaign", "list")
    assert (agents_key.code, agents_key.err) == (4, f"fedloom: this key is an agent's secret: {WHERE}\n")


def test_every_listing_says_what_to_do_when_it_is_empty(fedloom: Run) -> None:
    for group, says in (("campaign", "campaign create"), ("agent", "token create"), ("token", "token create")):
        ran = fedloom(group, "list")
        assert ran.code == 0
        assert says in ran.out
        assert json.loads(fedloom(group, "list", "--json").out) == []


# --- the SDK against the real service


def test_events_stream_to_the_end_of_the_campaign(
    coordinator: RunningCoordinator, campaign: Campaign, tmp_path: Path
) -> None:
    from fedloom import Client

    with Client(coordinator.url, coordinator.key) as client:
        assert client.health().status == "ok"
        stream = client.events(campaign.id)
        assert next(stream).type == "campaign-created"
        campaign.complete()
        numbers = [event.number for event in stream]
        assert numbers == list(range(2, numbers[-1] + 1))
        assert numbers[-1] == list(client.events(campaign.id, follow=False))[-1].number
        assert [event.number for event in client.events(campaign.id, after=numbers[-2])] == [numbers[-1]]
        assert client.wait(campaign.id, timeout_s=5).final_adapter == 1
        assert {metric.name for metric in client.metrics(campaign.id, round=1)} >= {"held_out_loss", "train_loss_mean"}
        assert {task.kind for task in client.tasks(campaign.id, round=1)} >= {"train"}
        assert client.pull_adapter(campaign.id, "best", tmp_path / "best").number == 1


def test_the_same_idempotency_key_gives_the_same_campaign(coordinator: RunningCoordinator, campaign_file: Path) -> None:
    from fedloom import Client, errors
    from shared.campaign.file import read_campaign_file

    spec = read_campaign_file(campaign_file)
    with Client(coordinator.url, coordinator.key) as client:
        first = client.create_campaign(campaign_file, idempotency_key="k")
        assert client.create_campaign(spec, idempotency_key="k").id == first.id
        assert client.create_campaign(spec).id != first.id
        with pytest.raises(errors.Conflict):
            client.create_campaign(spec.model_copy(update={"rounds": 9}), idempotency_key="k")


def test_an_update_that_is_refused_shows_in_watch(fedloom: Run, campaign: Campaign, tmp_path: Path) -> None:
    campaign.prepare()
    campaign.evaluate(2.0)
    ada = campaign.agents[0]
    lease = ada.lease("train")
    ada.result(lease, ada.train_result(ada.upload(lease, "delta", adapter_bytes(tmp_path, fill=float("nan")))))
    fedloom("campaign", "cancel", "small")
    assert "task-failed" in fedloom("campaign", "watch", "small").out
