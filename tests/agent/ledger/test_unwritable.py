"""While the ledger cannot be written nothing is sent, and nothing else is given up: training goes on, a stop is one."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import LedgerUnwritable
from agent.ledger.entries import PollsOpened
from agent.ledger.files import entries
from agent.ledger.ledger import Ledger
from tests.agent.parts import Home, by_call, ours
from tests.agent.test_agent import record, start_campaign, wait_for_training
from tests.support.ledgers import api_of
from tests.support.operator import Operator
from tests.support.processes import wait_until
from tests.unit.stub_server import stub_server

NewHome = Callable[..., Home]

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")


def full_disk(ledger: Ledger) -> Path:
    """A file on a full disk, as the last one of the ledger."""
    file = ledger.files.file_of(999_999_999_999)
    file.symlink_to("/dev/full")
    return file


def test_a_request_that_cannot_be_noted_does_not_leave(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")

    async def ask(url: str) -> None:
        api = api_of(url, "secret", ledger=ledger)
        await api.own_campaigns()
        full = full_disk(ledger)
        for call in (lambda: api.acquire("instance"), lambda: api.set_part("c1", "paused")):  # type: ignore[arg-type]
            with pytest.raises(LedgerUnwritable, match=r"this agent's disk is full: .*No space left"):
                await call()
        await api.close()
        full.unlink()

    with stub_server(by_call(GET=ours(200, '{"campaigns": []}'))) as stub:
        asyncio.run(ask(stub.url))
        assert [method for method, _, _ in stub.seen] == ["GET"]
    assert [type(entry.says) for entry, _ in entries(ledger.files)] == [PollsOpened]


def test_training_goes_on_meanwhile_and_a_stop_is_a_stop(
    new_home: NewHome, operator: Operator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    record(monkeypatch, step_s=0.2)
    home = new_home("ada")
    with home.running():
        campaign_id = start_campaign(operator, training={"steps": 50, "batch_size": 2})
        wait_for_training(operator, campaign_id)
        full = full_disk(home.workspace.ledger)
        wait_until(lambda: "the task continues meanwhile" in caplog.text, "a renewal that cannot be noted", 30)
    assert home.error is None, "leaving the block is Ctrl-C"
    full.unlink()
    assert "stopping; the task goes back when its lease expires" in caplog.text
    assert "the end of the latest polls is not in the ledger" not in caplog.text
