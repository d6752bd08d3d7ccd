"""The agent's home folder: identity, tasks under way, caches, what was sent.

agent.toml       settings, written by the owner
identity.json    who this agent is, and its secret; readable by its user only
new_secret.json  a secret that the coordinator is being told of, until identity.json has it
tasks/ID/        files of one task; result.json is written last, so what it names is complete
cache/           downloaded adapters, tokenised data, digests of model files
logs/ID.log      what the training child printed
client_state/CAMPAIGN/ what an algorithm has this client keep between rounds; named by the delta that it belongs to
sent.jsonl       everything that left for the coordinator, a line each
"""

import json
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from agent.child import CLIENT_STATE_FILE, RESULT_FILE, files_of
from agent.errors import AlreadyRunning, NotEnrolled
from shared import crash_points
from shared.credentials import AGENT_PREFIX, new_secret
from shared.digest import sha256_file
from shared.durable import atomic_text, move_into_place
from shared.wire.jobs import Result

_RESULT: TypeAdapter[Result] = TypeAdapter(Result)
_MICRO_BATCHES = TypeAdapter(dict[str, Annotated[int, Field(ge=1)]])
_KEEP_LOGS = 50
_KEEP_TASKS_S = 14 * 86400
_KEEP_CAMPAIGNS_S = 180 * 86400


class Identity(BaseModel):
    """Who this agent is, and where its coordinator is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    coordinator: str
    agent_id: str
    name: str
    secret: str
    ca_file: Path | None = None
    insecure: bool = False


class _NewSecret(BaseModel):
    """A secret that the coordinator may know already. purpose: what it was made for."""

    secret: str
    purpose: str


class _Instance(BaseModel):
    """Who runs in a home folder, and where that lies."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    place: list[str]


class Workspace:
    """One home folder. cache: a folder that agents on one machine share, instead of one of their own."""

    def __init__(self, home: Path, cache: Path | None = None) -> None:
        self.home = home.resolve()
        self.settings_file = self.home / "agent.toml"
        self.cache = (cache or self.home / "cache").resolve()
        self.adapters = self.cache / "adapters"
        self._identity_file = self.home / "identity.json"
        self._new_secret_file = self.home / "new_secret.json"
        self._tasks = self.home / "tasks"
        self._logs = self.home / "logs"
        self._client_state = self.home / "client_state"
        self._micro_batches = self.cache / "micro_batches.json"

    def create(self) -> None:
        """Make the folders."""
        for folder in (self.home, self.adapters, self._tasks, self._logs, self._client_state):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out of this home for the length of the block. Raises AlreadyRunning and OSError."""
        try:
            lock = FileLock(self.home / "agent.lock", thread_local=False).acquire(timeout=0)
        except Timeout as error:
            raise AlreadyRunning(self.home) from error
        with lock:
            yield

    @property
    def instance_id(self) -> str:
        """Names whoever runs in this home. The lock allows one process at a time, so a restarted one may go on with its
        predecessor's lease; a copy of the folder somewhere else gets a name of its own."""
        path = self.home / "instance.json"
        place = [socket.gethostname(), str(self.home)]
        try:
            known = _Instance.model_validate_json(path.read_bytes())
            if known.place == place:
                return known.id
        except (OSError, ValidationError):
            pass
        instance = _Instance(id=uuid4().hex, place=place)
        _write_private(path, instance.model_dump_json())
        return instance.id

    def read_identity(self) -> Identity:
        """Who this agent is. Raises NotEnrolled, and OSError for a file that cannot be read."""
        try:
            return Identity.model_validate_json(self._identity_file.read_bytes())
        except (FileNotFoundError, ValidationError) as error:
            raise NotEnrolled(self.home) from error

    def write_identity(self, identity: Identity) -> None:
        """Keep the identity where only this user can read it."""
        _write_private(self._identity_file, identity.model_dump_json(indent=2) + "\n")
        crash_points.reach("agent: identity")
        self._new_secret_file.unlink(missing_ok=True)

    def found_secret(self, purpose: str) -> str | None:
        """The secret that was made for a purpose, and never came into use as far as is known."""
        try:
            found = _NewSecret.model_validate_json(self._new_secret_file.read_bytes())
        except (OSError, ValidationError):
            return None
        return found.secret if found.purpose == purpose else None

    def secret_for(self, purpose: str) -> str:
        """A new secret for a purpose, the same one until an identity is written: a lost reply, or a process that
        dies, shuts nobody out."""
        secret = self.found_secret(purpose)
        if secret is None:
            secret = new_secret(AGENT_PREFIX)
            _write_private(self._new_secret_file, _NewSecret(secret=secret, purpose=purpose).model_dump_json())
        return secret

    def task_folder(self, task_id: str) -> Path:
        """The folder of a task's files, made if need be."""
        folder = self._tasks / task_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finished_result(self, task_id: str) -> Result | None:
        """The result that an earlier process left for a task; None unless its files are there, with their digests."""
        folder = self._tasks / task_id
        try:
            result = _RESULT.validate_json((folder / RESULT_FILE).read_bytes())
            is_whole = all(sha256_file(folder / name) == sha256 for _, name, sha256 in files_of(result))
        except (OSError, ValidationError):
            return None
        return result if is_whole else None

    def client_state_of(self, campaign_id: str, delta_sha256: str) -> Path | None:
        """What was kept with a delta of this client; None where it is not here."""
        path = self._client_state / campaign_id / delta_sha256
        return path if path.is_file() else None

    def keep_client_state(
        self, campaign_id: str, task_id: str, delta_sha256: str, committed_update: str | None, versions: int
    ) -> None:
        """Keep what a task left for the next one, what belongs to the counted delta, and the newest of the others, so
        that there are *versions* at most.

        Which of them counts is known when the round has closed: the next lease says so.
        """
        path = self._tasks / task_id / CLIENT_STATE_FILE
        if not path.is_file():
            return
        folder = self._client_state / campaign_id
        folder.mkdir(parents=True, exist_ok=True)
        move_into_place(path, folder / delta_sha256)
        crash_points.reach("agent: one more client state kept")
        others = [each for each in folder.iterdir() if each.name not in (delta_sha256, committed_update)]
        others.sort(key=lambda each: each.stat().st_mtime_ns, reverse=True)
        for old in others[max(0, versions - 2) :]:
            old.unlink()

    def forget_task(self, task_id: str) -> None:
        """Delete a task's files."""
        shutil.rmtree(self._tasks / task_id, ignore_errors=True)

    def log_file(self, task_id: str) -> Path:
        """Where the child's output for a task goes."""
        return self._logs / f"{task_id}.log"

    def tidy(self) -> None:
        """Delete the files of tasks that were never asked for again, of campaigns long past, and old logs."""
        for folder in self._tasks.iterdir():
            if folder.stat().st_mtime < time.time() - _KEEP_TASKS_S:
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self._client_state.iterdir():
            if folder.stat().st_mtime < time.time() - _KEEP_CAMPAIGNS_S:
                shutil.rmtree(folder, ignore_errors=True)
        for log in sorted(self._logs.iterdir())[:-_KEEP_LOGS]:
            log.unlink(missing_ok=True)

    def note_sent(self, what: str, **facts: Any) -> None:
        """Add a line to the owner's record of what left."""
        line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), "what": what, **facts})
        with (self.home / "sent.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def micro_batch(self, base: str, max_length: int, default: int) -> int:
        """The micro-batch that fits for a base model and a length, as far as was found out."""
        known = self._read_micro_batches().get(f"{base} {max_length}", default)
        return min(known, default)

    def remember_micro_batch(self, base: str, max_length: int, micro_batch: int) -> None:
        """Keep a smaller micro-batch for next time."""
        known = self._read_micro_batches()
        known[f"{base} {max_length}"] = micro_batch
        _write_private(self._micro_batches, json.dumps(known, indent=2))

    def _read_micro_batches(self) -> dict[str, int]:
        try:
            return _MICRO_BATCHES.validate_json(self._micro_batches.read_bytes())
        except (OSError, ValidationError):
            return {}


def _write_private(path: Path, text: str) -> None:
    atomic_text(path, text, mode=0o600)
