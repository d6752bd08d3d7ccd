"""The agent's home folder.

agent.toml             settings, written by the owner
identity.json          the agent's identity with its secret; readable by its user only
new_secret.json        secrets that are being sent to the coordinator, until identity.json holds one
instance.json          the id of the process that runs in this folder
record.db              the owner's record: accepted campaigns, and everything that was done for them; beside it SQLite's
                       journal, and the number of the latest booking
tasks/NAME/            files of one task, or of one round's training; result.json is written last, so the files that it
                       names are complete
cache/                 downloaded adapters, tokenised data, digests of the files of models and data
logs/ID.log            output of the training child
client_state/CAMPAIGN/ client state between rounds, each file named by the digest of the delta that it belongs to
residuals/CAMPAIGN/   what rounding took from updates, each file named in the same way
alone/CAMPAIGN/        the model that the owner trained alone, to compare with
report/                files of an owner's report while it is made
ledger/                every request that was sent to the coordinator, in a chain of digests
"""

import json
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from agent.data.digest_cache import DigestCache
from agent.errors import AlreadyRunning, NotEnrolled
from agent.ledger.files import FOLDER as LEDGER_FOLDER
from agent.ledger.ledger import Ledger
from agent.orders.job import Done
from agent.orders.job_files import CLIENT_STATE_FILE, RESIDUAL_FILE, RESULT_FILE, files_of
from agent.record.record import OwnerRecord
from shared import crash_points
from shared.credentials import AGENT_PREFIX, new_secret
from shared.digest import sha256_file
from shared.signing.keys import PublicKey
from shared.system.durable import atomic_text, delete_leftovers, move_into_place
from shared.system.private_files import private_folder, tighten

_NEW_SECRETS = TypeAdapter(dict[str, str])
"""Secrets that the coordinator may already know, by what they were made for."""
_MICRO_BATCHES = TypeAdapter(dict[str, Annotated[int, Field(ge=1)]])
_MAX_LOGS = 50
_TASK_RETENTION_S = 14 * 86400
_PART_RETENTION_S = 3 * 86400
_CLIENT_STATE_RETENTION_S = 180 * 86400


class Identity(BaseModel):
    """The agent's identity, and how to reach its coordinator."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    coordinator: str
    agent_id: str
    name: str
    secret: str
    signing_key: PublicKey
    """The coordinator's, as it was at the enrolment."""
    ca_file: Path | None = None
    insecure: bool = False


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
        self._residuals = self.home / "residuals"
        self._micro_batches = self.cache / "micro_batches.json"
        self.data_digests = DigestCache(self.cache / "data_digests.json")
        self.record = OwnerRecord(self.home)
        self.ledger = Ledger(self.home / LEDGER_FOLDER)

    def create(self) -> None:
        """Create the folders, and make everything in them private, whoever made it."""
        of_campaigns = (self._client_state, self._residuals)
        for folder in (self.home, self.cache, self.adapters, self._tasks, self._logs, *of_campaigns):
            private_folder(folder)
        for folder in {self.home, self.cache}:
            tighten(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock this home folder for one process, for the length of the block. Raises AlreadyRunning and OSError."""
        try:
            lock = FileLock(self.home / "agent.lock", mode=0o600, thread_local=False).acquire(timeout=0)
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

    def write_settings(self, text: str) -> None:
        """Write the settings file that an agent starts from, unless there is one. Raises OSError."""
        if not self.settings_file.exists():
            _write_private(self.settings_file, text)

    def write_identity(self, identity: Identity) -> None:
        """Store the identity so that only this user can read it."""
        _write_private(self._identity_file, identity.model_dump_json(indent=2) + "\n")
        crash_points.reach("agent: identity")
        self._new_secret_file.unlink(missing_ok=True)

    def pending_secret(self, purpose: str) -> str | None:
        """Return the secret that was made for a purpose and is not yet in the identity; None if there is none."""
        return self._pending_secrets().get(purpose)

    def secret_for(self, purpose: str) -> str:
        """Return a new secret for a purpose, the same one until an identity is written.

        So neither a lost reply nor a killed process locks the agent out. Secrets for other purposes stay: the
        coordinator may know the one of a change that was interrupted.
        """
        pending = self._pending_secrets()
        if purpose not in pending:
            pending[purpose] = new_secret(AGENT_PREFIX)
            _write_private(self._new_secret_file, json.dumps(pending))
        return pending[purpose]

    def _pending_secrets(self) -> dict[str, str]:
        try:
            return _NEW_SECRETS.validate_json(self._new_secret_file.read_bytes())
        except (OSError, ValidationError):
            return {}

    def traces_of_work(self) -> list[str]:
        """The names of what an agent leaves that worked in this folder. Without a record they tell that it was lost."""
        traces = [name for name in (LEDGER_FOLDER, "instance.json") if (self.home / name).exists()]
        folders = (self._tasks, self._client_state, self._residuals, self._logs)
        return traces + [f"{each.name}/" for each in folders if each.is_dir() and any(each.iterdir())]

    def task_folder(self, task_id: str) -> Path:
        """Return the folder of a task's files; create it if it does not exist."""
        folder = self._tasks / task_id
        private_folder(folder)
        return folder

    def finished(self, folder: Path) -> Done | None:
        """Return what the child left in a task's folder; None unless the files that it names match their digests."""
        try:
            done = Done.model_validate_json((folder / RESULT_FILE).read_bytes())
            is_complete = all(sha256_file(folder / name) == sha256 for _, name, sha256 in files_of(done.result))
        except (OSError, ValidationError):
            return None
        return done if is_complete else None

    def client_state_of(self, campaign_id: str, delta_sha256: str) -> Path | None:
        """Return the client state that belongs to a delta of this client; None if it is not stored here."""
        return _version(self._client_state, campaign_id, delta_sha256)

    def residual_of(self, campaign_id: str, delta_sha256: str) -> Path | None:
        """Return what rounding took from a delta of this client; None if it is not stored here."""
        return _version(self._residuals, campaign_id, delta_sha256)

    def keep_states(
        self, campaign_id: str, folder: Path, delta_sha256: str, committed_update: str | None, versions: int
    ) -> None:
        """Store the client state and the residual that a task left for the next one, and delete old versions.

        The new version, the committed update's version and the newest others stay, *versions* at most. Which update
        is committed is known once the round has closed: the next lease names it.

        Args:
            campaign_id: the campaign.
            folder: that of the task, with the new client state or residual. If it holds neither, nothing happens.
            delta_sha256: digest of the delta that both belong to.
            committed_update: digest of this client's last committed delta; None if there is none.
            versions: most versions to keep.
        """
        for name, kept in ((CLIENT_STATE_FILE, self._client_state), (RESIDUAL_FILE, self._residuals)):
            path = folder / name
            if not path.is_file():
                continue
            states = kept / campaign_id
            private_folder(states)
            path.chmod(0o600)
            move_into_place(path, states / delta_sha256)
            crash_points.reach("agent: one more client state kept")
            others = [version for version in states.iterdir() if version.name not in (delta_sha256, committed_update)]
            others.sort(key=lambda version: version.stat().st_mtime_ns, reverse=True)
            for old in others[max(0, versions - 2) :]:
                old.unlink()

    def _held_folders(self) -> set[str]:
        """The names of the folders of held updates, and of those that were let go and are not sent yet."""
        return self.record.held.folders() if self.record.exists else set()

    def tidy_task(self, folder: Path) -> None:
        """Delete the files of a task that has ended, but those of held updates, and those of a campaign's last finished
        training: a further attempt at that round sends them again."""
        campaign, is_training, _ = folder.name.partition(".")
        if not is_training or not (folder / RESULT_FILE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            return
        kept = {folder.name, *self._held_folders()}
        for other in self._tasks.glob(f"{campaign}.*"):
            if other.name not in kept:
                shutil.rmtree(other, ignore_errors=True)

    def cached_adapter(self, sha256: str) -> Path | None:
        """A downloaded adapter, whose digest is checked; None if it is not here, or not whole. Raises OSError.

        Downloads are not synced: a power cut may have left the name without the bytes.
        """
        path = self.adapters / sha256
        return path if path.is_file() and sha256_file(path) == sha256 else None

    def log_file(self, task_id: str) -> Path:
        """Return the path of the child's log for a task."""
        return self._logs / f"{task_id}.log"

    def tidy(self) -> None:
        """Delete files of abandoned tasks, client states and residuals of old campaigns, old logs, unfinished
        downloads, and what killed processes left."""
        for file in (self._identity_file, self._new_secret_file, self._micro_batches, self.home / "instance.json"):
            delete_leftovers(file)
        held = self._held_folders()
        for folder in self._tasks.iterdir():
            if folder.name not in held and folder.stat().st_mtime < time.time() - _TASK_RETENTION_S:
                shutil.rmtree(folder, ignore_errors=True)
        for folder in (*self._client_state.iterdir(), *self._residuals.iterdir()):
            if folder.stat().st_mtime < time.time() - _CLIENT_STATE_RETENTION_S:
                shutil.rmtree(folder, ignore_errors=True)
        for part in self.adapters.glob("*.part"):
            if part.stat().st_mtime < time.time() - _PART_RETENTION_S:
                part.unlink(missing_ok=True)
        for log in sorted(self._logs.iterdir())[:-_MAX_LOGS]:
            log.unlink(missing_ok=True)

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


def _version(kept: Path, campaign_id: str, delta_sha256: str) -> Path | None:
    """The file that belongs to a delta, among those kept of each campaign."""
    path = kept / campaign_id / delta_sha256
    return path if path.is_file() else None


def _write_private(path: Path, text: str) -> None:
    atomic_text(path, text, mode=0o600)
