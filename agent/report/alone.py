"""The model that an owner trains alone, to compare with: as many rounds and steps as it took part in.

It is FedAvg with one client, from the campaign's own start, as the row ``client alone`` of a comparison: the optimizer
restarts in each round, and the learning rate goes by the same schedule, over the owner's own rounds. The folder
``alone/CAMPAIGN`` of the home has the newest adapter, how far it is, and the files of the round under way.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.contract import common_facts, derived
from agent.errors import NoReport
from agent.orders.free_space import check_free_space
from agent.orders.job import LocalJob
from agent.orders.job_files import DELTA_FILE
from agent.orders.jobs import TrainJob
from agent.record.bookings import WorkKind
from agent.report.adapters import FoundAdapter
from agent.report.child import OnProgress, ReportChild
from agent.report.next_adapter import write_next
from agent.report.subject import Subject, ref_of
from agent.workspace import Workspace
from shared import crash_points
from shared.adapters.files import AdapterError
from shared.campaign.spec import AskedCpuDtype
from shared.digest import sha256_file, sha256_hex
from shared.system.durable import atomic_text, delete_leftovers
from shared.system.private_files import private_folder
from shared.wire.tasks.results import Fingerprint

FOLDER = "alone"
_STATE_FILE = "state.json"


class AlonePlan(BaseModel):
    """All that decides the model: with the same plan it is the same one.

    Args:
        spec_sha256: digest of the campaign's specification.
        fingerprint: of the base model.
        train_sha256: digest of the training rows.
        rank: that this machine trains.
        cpu_dtype: precision of the base model on a CPU.
        steps: optimizer steps of each round.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec_sha256: str
    fingerprint: Fingerprint
    train_sha256: str
    rank: int
    cpu_dtype: AskedCpuDtype
    steps: tuple[int, ...]

    @classmethod
    def of(cls, subject: Subject) -> "AlonePlan":
        """The plan by the rounds that the owner took part in, as far as they still count."""
        record, known = subject.workspace.record, subject.known
        steps = record.bookings.steps(known.id)
        trained = record.measured.standing(known.id, WorkKind.TRAIN)
        return cls(
            spec_sha256=known.spec_sha256,
            fingerprint=subject.prepared.fingerprint,
            train_sha256=subject.prepared.rows.train,
            rank=subject.prepared.rank,
            cpu_dtype=known.base.cpu_dtype,
            steps=tuple(steps[each.round, each.history] for each in trained),
        )

    @property
    def digest(self) -> str:
        return sha256_hex(self.model_dump_json().encode())


class _State(BaseModel):
    """How far a training alone is: the plan, its digest, rounds done, and the digest of the newest adapter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan: AlonePlan
    done: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class AloneModel:
    """The model of an owner alone. n_rounds, n_steps: of its training, in all."""

    path: Path
    sha256: str
    n_rounds: int
    n_steps: int


def alone_folder(workspace: Workspace, campaign_id: str) -> Path:
    """Where the model of a campaign is kept."""
    return workspace.home / FOLDER / campaign_id


def delete_alone(workspace: Workspace, campaign_id: str) -> None:
    """Delete the model of a campaign that its owner has forgotten."""
    shutil.rmtree(alone_folder(workspace, campaign_id), ignore_errors=True)


def find_alone(subject: Subject) -> tuple[AloneModel | None, str]:
    """The model that was trained before, if it is still the one to compare with; otherwise None, and why."""
    plan = AlonePlan.of(subject)
    folder = alone_folder(subject.workspace, subject.known.id)
    state = _read(folder)
    if not plan.steps:
        return None, "this owner took part in no round, so there is nothing to train alone"
    if state is None:
        return None, "no model was trained alone here; --alone trains one now"
    if state.plan != plan:
        ours, theirs = len(state.plan.steps), len(plan.steps)
        why = f"for {ours} rounds, and you took part in {theirs}" if ours != theirs else "for other rows or settings"
        return None, f"the model that was trained alone here was trained {why}; --alone trains it again"
    if state.done < len(plan.steps):
        return None, f"the training alone is at round {state.done} of {len(plan.steps)}; --alone goes on with it"
    path = _adapter(folder, state.done)
    if not _is_file_of(path, state.sha256):
        return None, "the model that was trained alone here is damaged; --alone trains it again"
    return AloneModel(path, state.sha256, len(plan.steps), sum(plan.steps)), ""


def train_alone(
    child: ReportChild, start: FoundAdapter, reference: FoundAdapter | None, on_round: Callable[[int, int], OnProgress]
) -> AloneModel:
    """Train the model, or what is left of it after a stop. Raises NoReport, TaskFailed, ChildDied and OSError.

    Args:
        child: that trains.
        start: the campaign's adapter 0.
        reference: the adapter of the kind's reference model; None for none.
        on_round: called with each round and their number; returns what its progress is reported to.
    """
    subject = child.subject
    plan = AlonePlan.of(subject)
    if not plan.steps:
        raise NoReport(f"this agent took part in no round of {subject.known.name}, so there is nothing to train alone")
    folder = alone_folder(subject.workspace, subject.known.id)
    private_folder(folder.parent)
    state = _begun(folder, plan, start)
    for number in range(state.done + 1, len(plan.steps) + 1):
        newest = FoundAdapter(number - 1, state.sha256, _adapter(folder, state.done) if state.done else start.path)
        _train_round(child, plan, number, newest, reference, folder, on_round(number, len(plan.steps)))
        sha256 = _next(child, newest, _round(folder, number) / DELTA_FILE, _adapter(folder, number))
        crash_points.reach("alone: adapter written")
        state = _State(plan=plan, done=number, sha256=sha256)
        _write(folder, state)
        _tidy(folder, number)
    return AloneModel(_adapter(folder, state.done), state.sha256, len(plan.steps), sum(plan.steps))


def _begun(folder: Path, plan: AlonePlan, start: FoundAdapter) -> _State:
    """How far a training by this plan is. What another plan left is deleted."""
    state = _read(folder)
    if state is not None and state.plan == plan:
        path = _adapter(folder, state.done) if state.done else None
        is_whole = state.sha256 == start.sha256 if path is None else _is_file_of(path, state.sha256)
        if is_whole:
            _tidy(folder, state.done)
            return state
    shutil.rmtree(folder, ignore_errors=True)
    private_folder(folder)
    state = _State(plan=plan, sha256=start.sha256)
    _write(folder, state)
    return state


def _train_round(
    child: ReportChild,
    plan: AlonePlan,
    number: int,
    adapter: FoundAdapter,
    reference: FoundAdapter | None,
    folder: Path,
    on_progress: OnProgress,
) -> None:
    """Train one round into its folder, unless a stop came after its end."""
    subject, spec = child.subject, child.subject.known.spec
    task = _round(folder, number)
    private_folder(task)
    job = derived(
        TrainJob,
        **common_facts(subject.known),
        fingerprint=subject.prepared.fingerprint,
        lora=spec.lora,
        rank=plan.rank,
        data=spec.data,
        algorithm="fedavg",
        algorithm_params={},
        plain_client=True,
        round=number,
        client_number=0,
        training=spec.training,
        steps=plan.steps[number - 1],
        learning_rate=spec.training.learning_rate_in(number, len(plan.steps)),
        adapter=ref_of(adapter.path, adapter.sha256),
        reference=ref_of(reference.path, reference.sha256) if reference is not None else None,
        state_versions=2,
    )
    if subject.workspace.finished(task) is not None:  # a stop came after its end
        return

    def order(micro_batch: int) -> LocalJob:
        return LocalJob(
            compute=subject.settings.compute,
            job=job,
            folder=task,
            cache=subject.workspace.cache,
            model_path=subject.model_path,
            data=subject.source,
            adapter=adapter.path,
            broadcast=None,
            reference=reference.path if reference is not None else None,
            micro_batch=micro_batch,
            remote_code=subject.settings.policy.remote_code,
        )

    check_free_space(order(1))
    child.run(order, on_progress)


def _next(child: ReportChild, adapter: FoundAdapter, delta: Path, out: Path) -> str:
    """Write the adapter after a round, and return its digest. Raises NoReport if the training diverged."""
    try:
        return write_next(adapter.path, delta, child.subject.known.spec.lora, out)
    except AdapterError as error:
        raise NoReport(f"the training alone cannot go on: {error}") from error


def _tidy(folder: Path, done: int) -> None:
    """Delete what is left of rounds before, and of one that is done again."""
    for path in folder.glob("adapter-*.safetensors"):
        if path != _adapter(folder, done):
            path.unlink(missing_ok=True)
    for path in folder.glob("round-*"):
        if path != _round(folder, done + 1):
            shutil.rmtree(path, ignore_errors=True)


def _is_file_of(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_file(path) == sha256


def _read(folder: Path) -> _State | None:
    try:
        return _State.model_validate_json((folder / _STATE_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _write(folder: Path, state: _State) -> None:
    delete_leftovers(folder / _STATE_FILE)
    atomic_text(folder / _STATE_FILE, state.model_dump_json(indent=2) + "\n", mode=0o600)


def _round(folder: Path, number: int) -> Path:
    return folder / f"round-{number}"


def _adapter(folder: Path, number: int) -> Path:
    return folder / f"adapter-{number}.safetensors"
