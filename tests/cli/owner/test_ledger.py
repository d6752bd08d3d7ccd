"""``fedloom agent ledger``: what left in words and bytes, whether the ledger is whole, and a copy for an auditor."""

import json
import re
from csv import DictReader
from pathlib import Path

import pytest

from agent.ledger.files import FOLDER, LedgerFiles
from shared.digest import sha256_hex
from tests.cli.owner.conftest import OwnersAgent


@pytest.fixture
def campaign_id(owner: OwnersAgent) -> str:
    """A campaign that is over, of two rounds; the agent has stopped."""
    with owner.running():
        campaign_id = owner.create()
        owner.asked(campaign_id)
        assert owner.approves(campaign_id).code == 0
        owner.operator.wait_for(campaign_id, "completed", timeout_s=60)
        assert owner.process.process.stop() == 0
    return campaign_id


def test_what_left_is_added_up_by_campaign_and_kind(owner: OwnersAgent, campaign_id: str) -> None:
    ran = owner.says("ledger", "show", "--campaign", "small")
    assert ran.code == 0
    words, heading, *kinds = ran.out.splitlines()
    assert words.startswith(f"campaign small ({campaign_id}): 2 deltas of ")
    assert words.endswith("; 1 text"), "that it waited for its owner"
    assert heading.split() == ["KIND", "REQUESTS", "BYTES"]
    assert any(line.split()[:2] == ["result", "4"] for line in kinds), kinds
    everything = owner.says("ledger", "show").out
    assert words in everything
    assert "no single campaign: " in everything
    assert re.search(r"single campaign: \d+ polls, 1 other request; no text\n", everything), "the enrolment"
    as_json = json.loads(owner.says("ledger", "show", "--json").out)["outflows"]
    [of_campaign] = [each for each in as_json if each["campaign"] == campaign_id]
    assert [each["kind"] for each in of_campaign["files"]].count("delta") == 2
    assert of_campaign["kinds"]["result"]["requests"] == 4
    assert len(of_campaign["texts"]) == 1


def test_entries_are_listed_with_their_bodies(owner: OwnersAgent, campaign_id: str) -> None:
    listed = owner.says("ledger", "show", "--campaign", campaign_id, "--kind", "failure", "--entries").out
    [line] = listed.splitlines()
    assert "waiting-for-owner" in line
    [entry] = json.loads(
        owner.says("ledger", "show", "--campaign", campaign_id, "--kind", "failure", "--entries", "--json").out
    )
    assert entry["says"]["body"]["kind"] == "waiting-for-owner"
    assert owner.says("ledger", "show", "--kind", "nonsense").out == "nothing of this was sent\n"


def test_no_secret_is_in_it(owner: OwnersAgent, campaign_id: str) -> None:
    text = owner.says("ledger", "export", "--format", "jsonl").out
    assert campaign_id in text
    identity = json.loads((owner.home / "identity.json").read_text())
    assert identity["secret"] not in text
    for secret in ("fle_", "fla_", "flo_"):
        assert secret not in text


def test_a_whole_ledger_is_told_with_its_last_digest(owner: OwnersAgent, campaign_id: str) -> None:
    ran = owner.says("ledger", "verify")
    assert ran.code == 0, ran.err
    lines = [line for _, _, line in LedgerFiles(owner.home / FOLDER).lines()]
    said, digest = ran.out.splitlines()
    assert said == f"the ledger is whole: {len(lines)} entries, from 1 to {len(lines)}; the last one has the digest"
    assert digest == sha256_hex(lines[-1].rstrip(b"\n"))
    found = json.loads(owner.says("ledger", "verify", "--json").out)
    assert (found["whole"], found["sha256"], found["problems"]) == (True, digest, [])


def test_an_edited_entry_is_named_and_the_agent_says_what_to_do(owner: OwnersAgent, campaign_id: str) -> None:
    [path] = LedgerFiles(owner.home / FOLDER).all()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b'"bytes":', b'"bytes":1'), *lines[3:]]))
    ran = owner.says("ledger", "verify")
    assert ran.code == 1
    assert ran.err.startswith("entry 3 was edited: entry 4 names another digest for it")
    assert ran.out.startswith("the ledger is not whole: ")
    path.write_bytes(b"".join(lines[:-1]))
    assert owner.says("ledger", "verify").code == 1
    owner.process.start()
    owner.process.process.popen.wait(60)
    assert "`fedloom agent ledger verify` says what is wrong" in owner.process.process.printed()


def test_an_export_is_a_table_or_the_chain_itself(owner: OwnersAgent, campaign_id: str, tmp_path: Path) -> None:
    table, lines = tmp_path / "sent.csv", tmp_path / "sent.jsonl"
    assert owner.says("ledger", "export", table, "--campaign", campaign_id).code == 0
    rows = list(DictReader(table.open()))
    assert {row["campaign"] for row in rows} == {campaign_id}
    assert [row["purpose"] for row in rows].count("result") == 4
    assert owner.says("ledger", "export", lines, "--format", "jsonl").code == 0
    before = "0" * 64
    for line in lines.read_bytes().splitlines():
        assert json.loads(line)["prev"] == before
        before = sha256_hex(line)
    assert owner.says("ledger", "export", lines).code == 2, "an existing file stays"
    assert lines.stat().st_mode & 0o777 == 0o600


def test_a_home_without_requests_has_an_empty_ledger(owner: OwnersAgent) -> None:
    for path in (owner.home / FOLDER).iterdir():
        path.unlink()
    assert owner.says("ledger", "show").out == "nothing was sent\n"
    assert owner.says("ledger", "verify").out == "the ledger is empty: nothing was sent\n"


def test_an_audit_needs_no_settings(owner: OwnersAgent, campaign_id: str) -> None:
    (owner.home / "agent.toml").write_text("[policy\n")
    assert campaign_id in owner.says("ledger", "show").out
    assert owner.says("ledger", "verify").code == 0
    (owner.home / "agent.toml").unlink()
    assert owner.says("ledger", "export").code == 0


def test_bytes_that_are_no_text_end_in_words(owner: OwnersAgent, campaign_id: str) -> None:
    [path] = LedgerFiles(owner.home / FOLDER).all()
    path.write_bytes(path.read_bytes() + b"\xff\n")
    ran = owner.says("ledger", "show")
    assert (ran.code, ran.out) == (1, "")
    assert "`fedloom agent ledger verify` says what is wrong" in ran.err
    assert owner.says("ledger", "verify").err.rstrip().endswith("is not an entry")
    assert owner.says("ledger", "export", "--format", "jsonl").out.endswith("\\xff\n")
