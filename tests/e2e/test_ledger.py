"""The ledger against what a proxy saw: entry for entry, through cuts, retries, deaths and a rotation of files."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.configuration.open_policy import with_open_policy
from agent.ledger.entries import PollsClosed, PollsOpened, Request
from agent.ledger.files import FOLDER, LedgerFiles
from agent.ledger.verification import verify
from agent.main import enroll
from agent.record.record import OwnerRecord
from tests.support.ledgers import ledger_of
from tests.support.processes import ROOT, Process, QuickCoordinator, ended, quick_recorded_child
from tests.support.recording_proxy import Recorder, Sent, recording_proxy
from tests.support.scripted import campaign_body

AGENT = """
import json, sys
from pathlib import Path
from agent import main
from agent.ledger import ledger
ledger.FILE_BYTES = 20_000
main.log_to_stderr()
main.run(Path(sys.argv[1]), json.loads(sys.argv[2]))
"""
SYNCED = "agent: in the ledger"
"""The process dies between the sync of an entry and its request."""

Key = tuple[str, str, int]


@contextmanager
def agent_process(home: Path, **environment: str) -> Iterator[Process]:
    argv = [sys.executable, "-c", AGENT, str(home), json.dumps(quick_recorded_child())]
    process = Process(argv, home.parent / f"{home.name}.log", cwd=ROOT, **environment)
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.stop()


def seen(sent: Sent) -> Key:
    return (sent.method, sent.path, sent.n_bytes)


def is_poll(key: Key) -> bool:
    return key[:2] in (("POST", "/v1/leases"), ("GET", "/v1/agents/me/campaigns"))


@pytest.mark.soak
@pytest.mark.fault
def test_the_ledger_has_every_request_that_left_and_no_other(tmp_path: Path) -> None:
    coordinator = QuickCoordinator(tmp_path / "coordinator")
    home = tmp_path / "ada"
    deaths = [SYNCED, f"{SYNCED}#12", "agent: delta sent"]
    with ended(coordinator), recording_proxy(coordinator.url, cut_every=9) as proxy:
        enroll(home, proxy.url, coordinator.operator.token(), "ada")
        (home / "agent.toml").write_text(with_open_policy('[data.notes]\npath = "notes.jsonl"\n'))
        (home / "notes.jsonl").write_text("{}\n" * 10)
        body = campaign_body(rounds=12, selection={"minimum": 1}, evaluation={"every": 1})
        campaign_id = coordinator.operator.post("/v1/campaigns", body)["id"]
        for point in deaths:
            crash = {"FEDLOOM_CRASH_AT": point, "FEDLOOM_CRASH_NOTES": str(tmp_path / f"notes {point}")}
            with agent_process(home, **crash) as process:
                assert process.popen.wait(120) == -9
        with agent_process(home) as process:
            coordinator.operator.wait_for(campaign_id, "completed", timeout_s=120)
            process.stop()
    compare(home, proxy, n_unsent=deaths.count(SYNCED) + 1)
    files = LedgerFiles(home / FOLDER)
    assert len(files.all()) > 1, "the files were rotated"
    found = verify(files, OwnerRecord(home).bookings.anchors())
    assert found.is_whole, found.problems


def compare(home: Path, proxy: Recorder, n_unsent: int) -> None:
    """n_unsent: most requests that were noted by a process that died before it sent them."""
    noted: Counter[Key] = Counter()
    n_polls, open_runs = 0, 0
    for entry in ledger_of(home):
        match entry.says:
            case Request() as request:
                noted[(request.method, request.path, request.bytes)] += 1
            case PollsOpened():
                open_runs += 1
            case PollsClosed() as closed:
                open_runs -= 1
                n_polls += closed.count
    left = Counter(seen(each) for each in proxy.sent)
    polls = sum(count for key, count in left.items() if is_poll(key))
    others = Counter({key: count for key, count in left.items() if not is_poll(key)})
    assert others - noted == Counter(), "sent, and not in the ledger"
    assert (noted - others).total() <= n_unsent, "in the ledger, and not sent"
    assert polls >= n_polls
    assert polls == n_polls or open_runs > 0, "all polls are counted, but for those of a run whose process died"
    digests = {(each.method, each.path, each.sha256) for each in proxy.sent if each.n_bytes}
    of_ledger = {
        (says.method, says.path, says.sha256)
        for each in ledger_of(home)
        if isinstance(says := each.says, Request | PollsOpened)
    }
    assert digests <= of_ledger
