"""Campaigns to verify, and a gate that holds a verification up."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.engine import verification
from coordinator.services import Services
from shared.wire.verification import RoundVerification
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, begin_campaign
from tests.support.server import RunningCoordinator

Enroll = Callable[..., ScriptedAgent]


def run_campaign(operator: Operator, folder: Path, enroll: Enroll, rounds: int = 3, **changes: Any) -> str:
    """Run a campaign of one agent to its end, with all updates retained."""
    agent = enroll("ada")
    body = {"selection": {"minimum": 1}, "retention": {"updates": rounds}, **changes}
    campaign_id = begin_campaign(operator, folder, [agent], rounds=rounds, **body)
    for number in range(rounds):
        agent.train(adapter_bytes(folder, number + 1.0))
    operator.wait_for(campaign_id, "completed")
    return campaign_id


def path_of(campaign_id: str) -> str:
    return f"/v1/campaigns/{campaign_id}/verifications"


def outcomes(job: dict[str, Any]) -> list[str]:
    return [each["outcome"] for each in job["outcomes"]]


class Gate:
    """Blocks the verification of one round until it is opened, and records which rounds were verified."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, holds: int | None = None) -> None:
        self.entered = threading.Event()
        self.verified: list[tuple[str, int]] = []
        self._holds = holds
        self._open = asyncio.Event()
        real = verification.verify_round

        async def verify_round(services: Services, campaign_id: str, number: int) -> RoundVerification:
            self.verified.append((campaign_id, number))
            if number == self._holds and not self.entered.is_set():
                self.entered.set()
                await self._open.wait()
            return await real(services, campaign_id, number)

        monkeypatch.setattr(verification, "verify_round", verify_round)

    @property
    def numbers(self) -> list[int]:
        return [number for _, number in self.verified]

    def open(self, running: RunningCoordinator) -> None:
        running.loop.call_soon_threadsafe(self._open.set)


def wait_until_done(operator: Operator, path: str) -> dict[str, Any]:
    found: dict[str, Any] = operator.wait_until(lambda: operator.get(path), lambda job: job["state"] == "done", 30)
    return found
