"""The agent's home folder.

agent.toml             settings, written by the owner
identity.json          the agent's identity with its secret; readable by its user only
new_secret.json        a secret that is being sent to the coordinator, until identity.json holds it
instance.json          the id of the process that runs in this folder
tasks/ID/              files of one task; result.json is written last, so the files that it names are complete
cache/                 downloaded adapters, tokenised data, digests of model files
logs/ID.log            output of the training child
client_state/CAMPAIGN/ client state between rounds, each file named by the digest of the delta that it belongs to
sent.jsonl             a record of everything that was sent to the coordinator, one line each
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

from agent.errors import AlreadyRunning, NotEnrolled
from agent.orders.job_files import CLIENT_STATE_FILE, RESULT_FILE, files_of
from shared import crash_points
from shared.credentials import AGENT_PREFIX, new_secret
from shared.digest import sha256_file
from shared.durable import atomic_text, delete_leftovers, move_into_place
from shared.wire.jobs import Result

_RESULT: TypeAdapter[Result] = TypeAdapter(Result)
_MICRO_BATCHES = TypeAdapter(dict[str, Annotated[int, Field(ge=1)]])
_MAX_LOGS = 50
_TASK_RETENTION_S = 14 * 86400
_CLIENT_STATE_RETENTION_S = 180 * 86400


class Identity(BaseModel):
    """The agent's identity, and how to reach its coordinator."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    coordinator: str
    agent_id: str
    name: str
    secret: str
    ca_file: Path | None = None
    insecure: bool = False


class _NewSecret(BaseModel):
    """A secret that the coordinator may already know. purpose: what it was made for."""

    secret: str
    purpose: str


class _Instance(BaseModel):
    """The id of the agent process in a home folder. place: host name and path of the folder."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    place: list[str]


class Workspace:
    """One home folder. cache: a cache folder shared by agents on one machine; None means one inside the home folder."""

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
        """Create the folders."""
        for folder in (self.home, self.adapters, self._tasks, self._logs, self._client_state):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock this home folder for one process, for the length of the block. Raises AlreadyRunning and OSError."""
        try:
            lock = FileLock(self.home / "agent.lock", thread_local=False).acquire(timeout=0)
        except Timeout as error:
            raise AlreadyRunning(self.home) from error
        with lock:
            yield

    @property
    def instance_id(self) -> str:
        """The id of the agent process that runs in this home folder.

        The lock allows one process at a time, so a restarted process may continue its predecessor's lease. A copy of
        the folder elsewhere gets an id of its own.
        """
        path = self.home / "instance.json"
        place = [socket.gethostname(), str(self.home)]
        try:
            existing = _Instance.model_validate_json(path.read_bytes())
            if existing.place == place:
                return existing.id
        except (OSError, ValidationError):
            pass
        instance = _Instance(id=uuid4().hex, place=place)
        _write_private(path, instance.model_dump_json())
        return instance.id

    def read_identity(self) -> Identity:
        """Return the agent's identity. Raises NotEnrolled, and OSError if the file cannot be read."""
        try:
            return Identity.model_validate_json(self._identity_file.read_bytes())
        except (FileNotFoundError, ValidationError) as error:
            raise NotEnrolled(self.home) from error

    def write_identity(self, identity: Identity) -> None:
        """Store the identity so that only this user can read it."""
        _write_private(self._identity_file, identity.model_dump_json(indent=2) + "\n")
        crash_points.reach("agent: identity")
        self._new_secret_file.unlink(missing_ok=True)

    def pending_secret(self, purpose: str) -> str | None:
        """Return the secret that was made for a purpose and is not yet in the identity; None if there is none."""
        try:
            pending = _NewSecret.model_validate_json(self._new_secret_file.read_bytes())
        except (OSError, ValidationError):
            return None
        return pending.secret if pending.purpose == purpose else None

    def secret_for(self, purpose: str) -> str:
        """Return a new secret for a purpose, the same one until an identity is written.

        So neither a lost reply nor a killed process locks the agent out.
        """
        secret = self.pending_secret(purpose)
        if secret is None:
            secret = new_secret(AGENT_PREFIX)
            _write_private(self._new_secret_file, _NewSecret(secret=secret, purpose=purpose).model_dump_json())
        return secret

    def task_folder(self, task_id: str) -> Path:
        """Return the folder of a task's files; create it if it does not exist."""
        folder = self._tasks / task_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finished_result(self, task_id: str) -> Result | None:
        """Return the result that an earlier process left for a task; None unless its files match their digests."""
        folder = self._tasks / task_id
        try:
            result = _RESULT.validate_json((folder / RESULT_FILE).read_bytes())
            is_complete = all(sha256_file(folder / name) == sha256 for _, name, sha256 in files_of(result))
        except (OSError, ValidationError):
            return None
        return result if is_complete else None

    def client_state_of(self, campaign_id: str, delta_sha256: str) -> Path | None:
        """Return the client state that belongs to a delta of this client; None if it is not stored here."""
        path = self._client_state / campaign_id / delta_sha256
        return path if path.is_file() else None

    def keep_client_state(
        self, campaign_id: str, task_id: str, delta_sha256: str, committed_update: str | None, versions: int
    ) -> None:
        """Store the client state that a task left for the next one, and delete old versions.

        The new version, the committed update's version and the newest others stay, *versions* at most. Which update
        is committed is known once the round has closed: the next lease names it.

        Args:
            campaign_id: the campaign.
            task_id: the task whose folder holds the new client state. If it holds none, nothing happens.
            delta_sha256: digest of the delta that the new client state belongs to.
            committed_update: digest of this client's last committed delta; None if there is none.
            versions: most versions to keep.
        """
        path = self._tasks / task_id / CLIENT_STATE_FILE
        if not path.is_file():
            return
        folder = self._client_state / campaign_id
        folder.mkdir(parents=True, exist_ok=True)
        move_into_place(path, folder / delta_sha256)
        crash_points.reach("agent: one more client state kept")
        others = [version for version in folder.iterdir() if version.name not in (delta_sha256, committed_update)]
        others.sort(key=lambda version: version.stat().st_mtime_ns, reverse=True)
        for old in others[max(0, versions - 2) :]:
            old.unlink()

    def forget_task(self, task_id: str) -> None:
        """Delete a task's files."""
        shutil.rmtree(self._tasks / task_id, ignore_errors=True)

    def log_file(self, task_id: str) -> Path:
        """Return the path of the child's log for a task."""
        return self._logs / f"{task_id}.log"

    def tidy(self) -> None:
        """Delete files of abandoned tasks, client states of old campaigns, old logs, and what killed processes left."""
        for file in (self._identity_file, self._new_secret_file, self._micro_batches, self.home / "instance.json"):
            delete_leftovers(file)
        for folder in self._tasks.iterdir():
            if folder.stat().st_mtime < time.time() - _TASK_RETENTION_S:
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self._client_state.iterdir():
            if folder.stat().st_mtime < time.time() - _CLIENT_STATE_RETENTION_S:
                shutil.rmtree(folder, ignore_errors=True)
        for log in sorted(self._logs.iterdir())[:-_MAX_LOGS]:
            log.unlink(missing_ok=True)

    def record_sent(self, what: str, **details: Any) -> None:
        """Append a line to sent.jsonl, the owner's record of what was sent."""
        line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), "what": what, **details})
        with (self.home / "sent.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def micro_batch(self, base: str, max_length: int, default: int) -> int:
        """Return the largest micro-batch known to fit a base model and a maximum length, at most *default*."""
        remembered = self._read_micro_batches().get(f"{base} {max_length}", default)
        return min(remembered, default)

    def remember_micro_batch(self, base: str, max_length: int, micro_batch: int) -> None:
        """Remember a smaller micro-batch for later tasks."""
        micro_batches = self._read_micro_batches()
        micro_batches[f"{base} {max_length}"] = micro_batch
        _write_private(self._micro_batches, json.dumps(micro_batches, indent=2))

    def _read_micro_batches(self) -> dict[str, int]:
        try:
            return _MICRO_BATCHES.validate_json(self._micro_batches.read_bytes())
        except (OSError, ValidationError):
            return {}


def _write_private(path: Path, text: str) -> None:
    atomic_text(path, text, mode=0o600)
