"""Does one task from its lease to its result: policy, download, child, upload, completion."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from agent import policy
from agent.child import Done, Failed, LocalJob, OutOfMemory, files_of
from agent.errors import CoordinatorRefused, TaskFailed, TransferCorrupted
from agent.network.api import CoordinatorApi
from agent.network.heartbeat import LeaseHeartbeat, TaskGone
from agent.network.transfer import AdapterCache, upload
from agent.settings import AgentSettings
from agent.supervisor import ChildDied, Supervisor
from agent.workspace import Workspace
from shared import crash_points
from shared.wire.jobs import EvaluateJob, InitJob, Job, Result, TrainJob, TrainResult
from shared.wire.leases import Failure, FailureKind, Phase, Progress, TaskLease
from shared.wire.problems import ProblemType

log = logging.getLogger(__name__)

_SAY_EVERY_S = 5.0
_ROOM_BYTES = 1 << 20

FINAL = frozenset({ProblemType.AGENT_REVOKED, ProblemType.UNAUTHENTICATED, ProblemType.PROTOCOL_NOT_SERVED})
"""Refusals after which this agent need not ask again."""


class TaskRunner:
    """Does tasks, one at a time, with one child that stays warm between them."""

    def __init__(
        self, api: CoordinatorApi, workspace: Workspace, settings: AgentSettings, supervisor: Supervisor
    ) -> None:
        self._api = api
        self._workspace = workspace
        self._settings = settings
        self._supervisor = supervisor
        self._cache = AdapterCache(workspace.adapters, settings.cache.max_bytes)

    async def run(self, lease: TaskLease, instance_id: str) -> TaskLease | None:
        """Do a leased task to its end, whatever the end is. The lease of another task, where one came instead.

        Cancelled, it gives the task back.
        """
        heartbeat = LeaseHeartbeat(self._api, instance_id, lease)
        log.info("%s", _describe(lease.job))
        beating = asyncio.create_task(heartbeat.run())
        working = asyncio.create_task(self._work(lease.job, heartbeat))
        try:
            await asyncio.wait((beating, working), return_when=asyncio.FIRST_COMPLETED)
            for task in (working, beating):
                if task.done():
                    await task
                    return None
        except TaskGone as gone:
            log.info("%s", gone)
            return gone.successor
        except asyncio.CancelledError:
            for task in (beating, working):  # the heartbeat too: it would take the released task back
                task.cancel()
            await asyncio.wait((beating, working))
            await heartbeat.release()
            raise
        finally:
            for task in (beating, working):
                task.cancel()
            await asyncio.gather(beating, working, return_exceptions=True)
        return None

    async def _work(self, job: Job, heartbeat: LeaseHeartbeat) -> None:
        try:
            crash_points.reach("agent: leased")
            policy.check(self._settings.policy, job)
            result = await asyncio.to_thread(self._workspace.finished_result, heartbeat.task_id)
            if result is not None:
                log.info("this task was finished before; its result only needs to be sent")
            else:
                async with self._supervisor.turn:
                    result = await self._train(job, heartbeat)
            crash_points.reach("agent: result there")
            await self._send(job, result, heartbeat)
        except TaskFailed as error:
            await self._give_up(error.failure, heartbeat)
        except TransferCorrupted as error:
            await self._give_up(TaskFailed(FailureKind.TRANSFER, str(error)).failure, heartbeat)
        except CoordinatorRefused as refused:
            if refused.kind in FINAL:
                raise
            message = f"the coordinator refused what this agent sent: {refused}"
            await self._give_up(TaskFailed(FailureKind.BAD_UPDATE, message).failure, heartbeat)
        crash_points.reach("agent: ended")
        self._workspace.forget_task(heartbeat.task_id)

    async def _give_up(self, failure: Failure, heartbeat: LeaseHeartbeat) -> None:
        log.error("%s: %s", failure.kind, failure.message)
        self._workspace.note_sent("failure", task=heartbeat.task_id, **failure.model_dump(mode="json"))
        await heartbeat.finish(lambda lease: self._api.put_failure(lease, failure))

    async def _train(self, job: Job, heartbeat: LeaseHeartbeat) -> Result:
        """Have the child do the job; with a smaller micro-batch where memory runs out. Raises TaskFailed."""
        adapter = reference = broadcast = None
        if isinstance(job, TrainJob | EvaluateJob):
            adapter = await self._cache.fetch(self._api, heartbeat, job.adapter)
            if job.reference is not None:
                reference = await self._cache.fetch(self._api, heartbeat, job.reference)
        if isinstance(job, TrainJob) and job.broadcast is not None:
            broadcast = await self._cache.fetch(self._api, heartbeat, job.broadcast)
        self._cache.evict(keep=(adapter, reference, broadcast))
        crash_points.reach("agent: downloaded")
        length = 0 if isinstance(job, InitJob) else job.max_length
        client_state = self._client_state(job)
        micro_batch = self._workspace.micro_batch(_weights(job), length, self._settings.compute.micro_batch)
        course = _TrainingProgress(_said(heartbeat.report))
        while True:
            work = LocalJob(
                job=job,
                folder=self._workspace.task_folder(heartbeat.task_id),
                cache=self._workspace.cache,
                model_path=self._settings.models.get(job.base.model),
                data=None if isinstance(job, InitJob) else self._settings.data.get(job.data.name),
                adapter=adapter,
                broadcast=broadcast,
                reference=reference,
                client_state=client_state,
                compute=self._settings.compute,
                micro_batch=micro_batch,
                remote_code=self._settings.policy.remote_code,
                report_losses=self._settings.policy.report_losses,
            )
            await asyncio.to_thread(_check_room, work)
            try:
                answer = await self._supervisor.run(work, self._workspace.log_file(heartbeat.task_id), course.report)
            except ChildDied as died:
                if not died.out_of_memory:
                    if not course.came_further():
                        raise TaskFailed(FailureKind.CRASH, str(died)) from died
                    log.warning("%s; trying once more", died)
                    continue
                answer = OutOfMemory(peak_bytes=0, longest_row_tokens=0)
            if isinstance(answer, Done):
                return answer.result
            if isinstance(answer, Failed):
                if answer.failure.kind is FailureKind.CRASH:
                    await asyncio.to_thread(_check_room, work)
                raise TaskFailed(answer.failure.kind, answer.failure.message)
            micro_batch = self._smaller(job, length, micro_batch, answer)

    def _client_state(self, job: Job) -> Path | None:
        """What this client kept with its counted update, where there is something."""
        if not isinstance(job, TrainJob) or job.committed_update is None:
            return None
        return self._workspace.client_state_of(job.campaign_id, job.committed_update)

    def _smaller(self, job: Job, length: int, micro_batch: int, answer: OutOfMemory) -> int:
        """Half the micro-batch, remembered for next time. Raises TaskFailed at 1."""
        if micro_batch == 1:
            peak = f"at a peak of {answer.peak_bytes / 2**30:.1f} GiB " if answer.peak_bytes else ""
            row = f"; the longest row has {answer.longest_row_tokens} tokens" if answer.longest_row_tokens else ""
            message = f"out of memory {peak}with one row at a time{row}; lower max_length, or use a smaller base model"
            raise TaskFailed(FailureKind.OUT_OF_MEMORY, message)
        smaller = micro_batch // 2
        self._workspace.remember_micro_batch(_weights(job), length, smaller)
        log.warning("out of memory with a micro-batch of %d; trying %d", micro_batch, smaller)
        return smaller

    async def _send(self, job: Job, result: Result, heartbeat: LeaseHeartbeat) -> None:
        """Upload the result's files and complete the task. Each is noted before it leaves: the part of it that an
        interruption lets through has left too."""
        folder = self._workspace.task_folder(heartbeat.task_id)
        for purpose, name, sha256 in files_of(result):
            n_bytes = (folder / name).stat().st_size
            self._workspace.note_sent(purpose.value, task=heartbeat.task_id, sha256=sha256, bytes=n_bytes)
            await upload(self._api, heartbeat, purpose, folder / name, sha256)
            crash_points.reach(f"agent: {purpose} sent")
            log.info("sent %s, %.1f MB", name, n_bytes / 1e6)
        if isinstance(job, TrainJob) and isinstance(result, TrainResult):
            # before the result can count: afterwards a crash would leave a counted update without what belongs to it
            await asyncio.to_thread(
                self._workspace.keep_client_state,
                job.campaign_id,
                heartbeat.task_id,
                result.delta,
                job.committed_update,
                job.state_versions,
            )
            crash_points.reach("agent: client state kept")
            if result.client_state_lost:
                log.warning("what this agent kept for %s is not here; it began without, and said so", job.algorithm)
        self._workspace.note_sent("result", task=heartbeat.task_id, **result.model_dump(mode="json"))
        try:
            await heartbeat.finish(lambda lease: self._api.put_result(lease, result))
        except CoordinatorRefused as error:
            if error.kind not in (ProblemType.BAD_UPDATE, ProblemType.RESULT_DIFFERS):
                raise
            log.error("the coordinator refused the result: %s", error)
        else:
            log.info("done")


class _TrainingProgress:
    """How far a training came, over the children that died on it: one goes on from its predecessor's checkpoint."""

    def __init__(self, say: Callable[[Progress], None]) -> None:
        self._say = say
        self._steps = 0
        self._died_at = -1

    def report(self, progress: Progress) -> None:
        if progress.phase is Phase.TRAINING:
            self._steps = max(self._steps, progress.done)
        self._say(progress)

    def came_further(self) -> bool:
        """Whether the child that died just now came further than the one before it."""
        further, self._died_at = self._steps > self._died_at, self._steps
        return further


def _check_room(work: LocalJob) -> None:
    """Raise OSError where the disk has no room for what the child writes, by writing as much. A full disk says nothing
    of the task: it is looked for before hours of training, and where the child met it, which reports a crash."""
    n_bytes = _ROOM_BYTES + (work.adapter.stat().st_size if work.adapter is not None else 0)
    path = work.folder / "room.part"
    try:
        with path.open("wb") as file:
            for _ in range(0, n_bytes, _ROOM_BYTES):
                file.write(bytes(_ROOM_BYTES))
    finally:
        path.unlink(missing_ok=True)


def _weights(job: Job) -> str:
    """What a micro-batch is remembered by: the base model, and how it is held."""
    return " ".join(filter(None, (job.base.model, job.base.quantization)))


def _describe(job: Job) -> str:
    where = f"campaign {job.campaign_name}"
    if isinstance(job, TrainJob):
        return f"train, round {job.round} of {where}"
    if isinstance(job, EvaluateJob):
        return f"evaluate adapter {job.round} of {where}"
    return f"{job.kind} for {where}"


def _said(report: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Pass progress on, and say it here too from time to time."""
    last_said = 0.0
    last_phase: Phase | None = None

    def on_progress(progress: Progress) -> None:
        nonlocal last_said, last_phase
        report(progress)
        crash_points.reach(f"agent: {progress.phase}")
        now = time.monotonic()
        if progress.phase is not last_phase or now - last_said >= _SAY_EVERY_S:
            last_said, last_phase = now, progress.phase
            far = f" {progress.done}/{progress.total}" if progress.total else ""
            loss = f", loss {progress.loss:.3f}" if progress.loss is not None else ""
            if progress.reward_margin is not None and progress.reward_accuracy is not None:
                loss += f", reward margin {progress.reward_margin:.3f}, accuracy {progress.reward_accuracy:.0%}"
            speed = f", {progress.tokens_per_s:.0f} tokens/s" if progress.tokens_per_s else ""
            log.info("  %s%s%s%s", progress.phase, far, loss, speed)

    return on_progress
