"""A coordinator with one of everything that a request can name, made again when requests have used it up."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.digest import sha256_hex
from tests.support.operator import Operator
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
from tests.support.server import RunningCoordinator


class World:
    """Ids that exist, by the names that paths give them, and the secrets of those who may call."""

    def __init__(self, coordinator: RunningCoordinator, folder: Path) -> None:
        self.coordinator = coordinator
        self.operator = Operator(coordinator.url, coordinator.key)
        self._folder = folder
        self._n_made = 0
        self.ids: dict[str, str] = {}
        self.secrets: dict[str, str | None] = {}
        self.lease_header = ""
        self.renew()

    def mend(self) -> None:
        """Make everything again if requests have used some of it up."""
        if not self._is_whole():
            self.renew()

    def _is_whole(self) -> bool:
        agents = {"Authorization": f"Bearer {self.secrets['agent']}", "Fedloom-Lease": self.lease_header}
        http, ids = self.operator.http, self.ids
        lives = http.patch(f"/v1/leases/{ids['task_id']}", json={}, headers=agents).is_success
        uploads = http.head(f"/v1/uploads/{ids['upload_id']}", headers=agents).is_success
        runs = self.operator.get(f"/v1/campaigns/{ids['campaign']}")["state"] == "running"
        return lives and uploads and runs and ids["token_id"] in self._tokens()

    def _tokens(self) -> set[str]:
        return {token["id"] for token in self.operator.all_items("/v1/tokens", limit=500)}

    def renew(self) -> None:
        """Make a campaign whose first adapter is there, with an agent that holds a lease and uploads."""
        if self.ids:
            self.operator.campaign(self.ids["campaign"], "cancel")
        self._n_made += 1
        mine = {"world": str(self._n_made)}  # earlier agents answer no more
        agent = ScriptedAgent(self.coordinator.url, self.operator.token(labels=mine), f"agent-{self._n_made}")
        selection = {"clients_per_round": 1, "minimum": 1, "labels": mine}
        made = self.operator.post("/v1/campaigns", campaign_body(rounds=5, selection=selection))
        agent.prepare()
        adapter = adapter_bytes(self._folder)
        agent.init(adapter)
        agent.train(adapter_bytes(self._folder, fill=1.0))
        verification = self.operator.post(f"/v1/campaigns/{made['id']}/verifications")
        lease = agent.lease("train")
        data = adapter_bytes(self._folder, fill=2.0)
        upload = agent.start_upload(lease, "delta", data).json()
        self.lease_header = ScriptedAgent.header(lease)["Fedloom-Lease"]
        self.secrets = {"operator": self.operator.key, "agent": agent.identity["secret"], "nobody": None}
        self.ids = {
            "campaign": made["id"],
            "campaign_id": made["id"],
            "verification_id": verification["id"],
            "task_id": lease["task_id"],
            "upload_id": upload["id"],
            "sha256": sha256_hex(adapter),
            "which": "latest",
            "id_or_name": agent.name,
            "token_id": self.operator.post("/v1/tokens", {})["id"],
        }
        agent.http.close()


@contextmanager
def errors_logged() -> Iterator[list[logging.LogRecord]]:
    """The records that are errors or hold a traceback, collected while the block runs."""
    found: list[logging.LogRecord] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR or record.exc_info:
                found.append(record)

    handler = Collecting()
    logging.getLogger().addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger().removeHandler(handler)


HOSTILE: list[Any] = [
    *(None, True, -1, 0, 2**63, 10**400, 1e308, -1e308, 5e-324),
    *("", "\x00", "a\x00b", "\x1b]0;T\x07", "\n", "[/]", "\ud800", "\u202e", "a" * 100_000, "../../etc/passwd", "NaN"),
    *([], {}, [[[[[[[[]]]]]]]], {"__proto__": {}}, {"": ""}),
]
"""Values that a field of whatever type may hold in JSON."""


def corrupted(body: Any, random: random.Random) -> Any:
    """A JSON value with one of its parts replaced by a hostile one."""
    if isinstance(body, dict) and body and random.random() < 0.85:
        key = random.choice(sorted(body))
        return {**body, key: corrupted(body[key], random)}
    if isinstance(body, list) and body and random.random() < 0.7:
        place = random.randrange(len(body))
        return [*body[:place], corrupted(body[place], random), *body[place + 1 :]]
    return random.choice(HOSTILE)
