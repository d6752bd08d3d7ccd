"""Ledgers for tests."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.ledger.ledger import Ledger
from agent.ledger.outbound import Outbound, Purpose
from shared.digest import sha256_hex


def a_request(number: int = 1, **changes: Any) -> Outbound:
    """A result with a body of its own."""
    facts = {"campaign": "c1", "n_bytes": 10 + number, "sha256": sha256_hex(str(number).encode())}
    body = {"metrics": {"train_loss_mean": float(number)}}
    return Outbound(Purpose.RESULT, "PUT", f"/v1/leases/t{number}/result", body=body, **{**facts, **changes})


def a_poll(purpose: Purpose = Purpose.WORK) -> Outbound:
    """A request for work, or for news."""
    if purpose is Purpose.NEWS:
        return Outbound(purpose, "GET", "/v1/agents/me/campaigns")
    return Outbound(purpose, "POST", "/v1/leases", n_bytes=50, sha256="a" * 64, body={"version": "1"})


def noted(ledger: Ledger, outbounds: Iterable[Outbound]) -> None:
    """Note requests one after the other, in an event loop of their own."""

    async def note() -> None:
        for outbound in outbounds:
            await ledger.note(outbound)
        await ledger.close()

    asyncio.run(note())


def filled(folder: Path, n: int, file_bytes: int = 2000) -> Ledger:
    """A ledger of n entries in several files."""
    ledger = Ledger(folder, file_bytes)
    noted(ledger, map(a_request, range(1, n + 1)))
    return ledger
