"""Runs one task from lease to result: admission, download, training child, upload, completion."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent.acceptance import Acceptance
from agent.admission import Admission, Admitted
from agent.benchmarks.interface import MakeBenchmarks
from agent.benchmarks.offers import BenchmarkOffers
from agent.benchmarks.tasks import BenchmarkTasks
from agent.child.progress import ProgressTracker
from agent.child.progress_log import ProgressLog
from agent.child.supervisor import ChildDied, Supervisor
from agent.configuration.live import LiveSettings
from agent.errors import CoordinatorRefused, TaskFailed, TransferCorrupted
from agent.holding.holding import Holding
from agent.holding.releases import Releases
from agent.holding.reviewer import Reviewer
from agent.installed import check_installed, load_kind
from agent.network.api import CoordinatorApi
from agent.network.heartbeat import LeaseHeartbeat, TaskGone
from agent.network.news import CampaignNews
from agent.network.redaction import Redactor
from agent.network.retry import until_reached
from agent.network.transfer import AdapterCache, upload
from agent.orders.free_space import check_free_space
from agent.orders.job import Done, LocalJob
from agent.orders.job_files import files_of
from agent.orders.jobs import AnyJob, BenchmarkJob, EvaluateJob, InitJob, Job, TrainJob
from agent.orders.protocol import Failed
from agent.owner.results import OwnersResults
from agent.owner.word import OwnersWord
from agent.policy.disclosure import Disclosure
from agent.running.rows_at_once import RowsAtOnce
from agent.signing.following import SignedCampaigns
from agent.workspace import Workspace
from shared import crash_points
from shared.digest import sha256_hex
from shared.metrics import ReportLevel
from shared.owners_word import STATES
from shared.text.quantities import size
from shared.wire.agents import OwnCampaign
from shared.wire.problems import ProblemType
from shared.wire.tasks.assignments import Assignment, BenchmarkAssignment, TrainAssignment
from shared.wire.tasks.leases import FailureKind, Progress, TaskLease
from shared.wire.tasks.results import BenchmarkResult, EvaluateResult, PrepareResult, Result, TrainResult

log = logging.getLogger(__name__)

FINAL = frozenset({ProblemType.AGENT_REVOKED, ProblemType.UNAUTHENTICATED, ProblemType.PROTOCOL_NOT_SERVED})
"""Refusals after which the agent stops: asking again would not help."""


class TaskRunner:
    """Runs tasks one at a time, with one child that keeps the base model loaded between them."""

    def __init__(
        self,
        api: CoordinatorApi,
        workspace: Workspace,
        settings: LiveSettings,
        supervisor: Supervisor,
        acceptance: Acceptance,
        signed: SignedCampaigns,
        benchmarks: MakeBenchmarks | None = None,
    ) -> None:
        self._api = api
        self._signed = signed
        self._workspace = workspace
        self._live_settings = settings
        self._settings = settings.at_start
        self._supervisor = supervisor
        self._acceptance = acceptance
        self._admission = Admission(workspace.record, acceptance, workspace.data_digests, workspace.ledger)
        self._results_told = OwnersResults(workspace.home, workspace.record, lambda: self._settings.policy)
        self._holding = Holding(api, workspace)
        self._owners_word = OwnersWord(api, workspace.record.campaigns)
        self._offers = BenchmarkOffers(api, workspace.record, benchmarks)
        self._benchmark_tasks = BenchmarkTasks(api, workspace, supervisor)
        self.releases = Releases(api, workspace.record)
        self.reviewer = Reviewer(workspace, supervisor, settings)
        self.news = CampaignNews(api, self._pass_on, self._results_told.tell_end)
        self.failures_in_a_row = 0
        self._told_level: ReportLevel | None = None
        self._progress_log = ProgressLog()

    async def look(self) -> None:
        """Look at what the settings and the coordinator say of campaigns by now."""
        with suppress(TaskFailed):  # settings with an error: the next task says so
            settings = await self._live_settings.current()
            await asyncio.to_thread(self._acceptance.review, settings)
            await self.releases.review_policy(settings.policy)
        await self.news.look()

    async def _pass_on(self, campaigns: Sequence[OwnCampaign]) -> None:
        """Pass on what the owner said, and what benchmarks this agent runs. campaigns: as the coordinator knows
        them."""
        await self._owners_word.pass_on(campaigns)
        await self.releases.look(campaigns)
        with suppress(TaskFailed):
            await self._offers.pass_on(await self._live_settings.current(), campaigns)

    async def run(self, lease: TaskLease, instance_id: str) -> TaskLease | None:
        """Run a leased task to its end, success or failure. Returns the lease of another task if one replaced it.

        If cancelled, gives the task back.
        """
        heartbeat = LeaseHeartbeat(self._api, instance_id, lease, self._show)
        self.news.follow(lease.assignment.campaign_id)
        beating = asyncio.create_task(heartbeat.run())
        self._progress_log.begin()
        showing = asyncio.create_task(self._progress_log.watch())
        working = asyncio.create_task(self._work(lease, heartbeat))
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
            for task in (beating, working):  # the heartbeat too: it would acquire the released task again
                task.cancel()
            await asyncio.wait((beating, working))
            is_back = await heartbeat.release()
            log.info("stopping; the task %s", "was given back" if is_back else "goes back when its lease expires")
            raise
        finally:
            for task in (beating, working, showing):
                task.cancel()
            await asyncio.gather(beating, working, showing, return_exceptions=True)
        return None

    def _show(self, progress: Progress) -> Progress:
        """Show the owner the progress. Returns what of it leaves."""
        shown = self._progress_log.show(progress)
        return Disclosure(self._settings.policy, {}).progress(shown)

    async def _work(self, lease: TaskLease, heartbeat: LeaseHeartbeat) -> None:
        task = lease.assignment
        folder = self._workspace.task_folder(_folder_name(task, heartbeat.task_id))
        try:
            crash_points.reach("agent: leased")
            self._settings = await self._live_settings.current()
            await until_reached(lambda: self._signed.check(task, lease.statements))
            admitted = await asyncio.to_thread(self._admission.admit, self._settings, task)
            log.info("%s", _summary(admitted.job))
            if admitted.answer is not None:
                measured = leaving = admitted.answer
            elif isinstance(task, BenchmarkAssignment):
                measured = leaving = await self._benchmark(task, admitted, folder, heartbeat)
            else:
                measured, leaving = await self._results(task, admitted, folder, heartbeat)
            crash_points.reach("agent: result there")
            await asyncio.to_thread(self._admission.check_standing, self._settings, task)
            if await self._holding.keeps(self._settings, admitted, folder, heartbeat):
                self.reviewer.wake()
            else:
                leaving = await asyncio.to_thread(lambda: self._redactor(task).result(leaving))
                if isinstance(leaving, PrepareResult):  # before it: the campaign may start as soon as it is there
                    await self._offer_benchmarks(task.campaign_id)
                await self._send(admitted.job, measured, leaving, folder, heartbeat)
                await self._holding.sent(admitted)
        except TaskFailed as error:
            await self._give_up(error, task, heartbeat)
        except TransferCorrupted as error:
            await self._give_up(TaskFailed(FailureKind.TRANSFER, str(error)), task, heartbeat)
        except CoordinatorRefused as refused:
            if refused.kind in FINAL:
                raise
            # without the coordinator's words: told back to it changed, they would tell which are names of this machine
            message = "the coordinator refused a request of this agent"
            await self._give_up(TaskFailed(FailureKind.BAD_UPDATE, message, f"{message}: {refused}"), task, heartbeat)
        crash_points.reach("agent: ended")
        await asyncio.to_thread(self._workspace.tidy_task, folder)

    async def _results(
        self, task: Assignment, admitted: Admitted, folder: Path, heartbeat: LeaseHeartbeat
    ) -> tuple[Result, Result]:
        """The result of an admitted task, from its folder if an earlier run finished it, and what of it leaves.

        Raises TaskFailed.
        """
        assert not isinstance(admitted.job, BenchmarkJob)
        done = await asyncio.to_thread(self._finished, admitted, folder)
        if done is not None:
            log.info("an earlier run finished this task; only its result is left to send")
        else:
            async with self._supervisor.turn:
                done = await self._train(admitted.job, folder, heartbeat)
            self._settings = await self._live_settings.current()  # the owner may have narrowed them meanwhile
        leaving = await asyncio.to_thread(self._admission.record_answer, self._settings, task, admitted, done)
        return done.result, leaving

    def _finished(self, admitted: Admitted, folder: Path) -> Done | None:
        """What an earlier run made of a task; None if it is to be done. Raises TaskFailed if that may not be again."""
        done = self._workspace.finished(folder)
        if done is None:
            self._admission.check_not_gone(admitted)
        return done

    async def _benchmark(
        self, task: BenchmarkAssignment, admitted: Admitted, folder: Path, heartbeat: LeaseHeartbeat
    ) -> Result:
        """What public benchmarks give of an adapter. Raises TaskFailed."""
        job = admitted.job
        assert isinstance(job, BenchmarkJob)
        benchmarks = self._offers.runner()
        async with self._supervisor.turn:
            scores = await self._benchmark_tasks.run(benchmarks, self._settings, job, folder, heartbeat)
        self._settings = await self._live_settings.current()  # the owner may have narrowed them meanwhile
        return await asyncio.to_thread(self._admission.record_scores, self._settings, task, scores)

    async def _offer_benchmarks(self, campaign_id: str) -> None:
        try:
            await self._offers.offer(self._settings, campaign_id)
        except CoordinatorRefused as refused:
            if refused.kind in FINAL:
                raise
            log.warning("the coordinator refused the offer of benchmarks: %s", refused)

    async def _give_up(self, error: TaskFailed, task: Assignment, heartbeat: LeaseHeartbeat) -> None:
        failure = await asyncio.to_thread(lambda: self._redactor(task).failure(error.failure))
        if failure.kind in STATES:
            log.info("%s", failure.message)
        else:
            self.failures_in_a_row += 1
            kind = "" if failure.kind is FailureKind.REFUSED_BY_POLICY else f"{failure.kind}: "  # the message says it
            log.error("%s%s", kind, error)
            if str(error) != failure.message:
                log.info("the coordinator is told: %s", failure.message)
        await heartbeat.finish(lambda lease: self._api.put_failure(lease, failure))

    async def _train(self, job: Job, folder: Path, heartbeat: LeaseHeartbeat) -> Done:
        """Have the child do the job, with a smaller micro-batch each time memory runs out. Raises TaskFailed."""
        # before anything is downloaded
        check_installed(job)
        source = None if isinstance(job, InitJob) else self._settings.source(job.data.name)
        self._progress_log.metrics = load_kind(job.training_kind).metrics
        adapter = reference = broadcast = None
        cache = AdapterCache(self._workspace.adapters, self._settings.cache.max_bytes)
        if isinstance(job, TrainJob | EvaluateJob):
            adapter = await cache.fetch(self._api, heartbeat, job.adapter)
            if job.reference is not None:
                reference = await cache.fetch(self._api, heartbeat, job.reference, (adapter,))
        if isinstance(job, TrainJob) and job.broadcast is not None:
            broadcast = await cache.fetch(self._api, heartbeat, job.broadcast, (adapter, reference))
        cache.evict(keep=(adapter, reference, broadcast))
        crash_points.reach("agent: downloaded")
        client_state, residual = self._client_state(job), self._residual(job)
        rows = RowsAtOnce(self._workspace, self._settings, job)
        self._tell_level(job)
        progress = ProgressTracker(heartbeat.report)
        while True:
            order = LocalJob(
                job=job,
                folder=folder,
                cache=self._workspace.cache,
                model_path=self._settings.models.get(job.base.model),
                data=source,
                adapter=adapter,
                broadcast=broadcast,
                reference=reference,
                client_state=client_state,
                residual=residual,
                compute=self._settings.compute,
                micro_batch=rows.micro_batch,
                recompute=rows.recompute,
                remote_code=self._settings.policy.remote_code,
            )
            await asyncio.to_thread(check_free_space, order)
            try:
                answer = await self._supervisor.run(order, self._workspace.log_file(heartbeat.task_id), progress.report)
            except ChildDied as died:
                if not died.out_of_memory:
                    if not progress.has_advanced():
                        raise TaskFailed(FailureKind.CRASH, died.public, str(died)) from died
                    log.warning("%s; starting a new one", died)
                    continue
                answer = rows.of_killed_child
            if isinstance(answer, Done):
                return answer
            if isinstance(answer, Failed):
                if answer.failure.kind is FailureKind.CRASH:
                    await asyncio.to_thread(check_free_space, order)
                raise TaskFailed(answer.failure.kind, answer.failure.message, answer.private)
            rows.shrink(answer)

    def _redactor(self, task: Assignment) -> Redactor:
        """What takes names out of texts, but for those that the coordinator said itself."""
        campaign = self._workspace.record.campaigns.find(task.campaign_id)
        said = campaign.spec.model_dump_json() if campaign is not None else ""
        return Redactor(self._settings, self._workspace, known=task.model_dump_json() + said)

    def _client_state(self, job: Job) -> Path | None:
        """Return the client state that belongs to this client's last committed update, or None if there is none."""
        if not isinstance(job, TrainJob) or job.committed_update is None:
            return None
        return self._workspace.client_state_of(job.campaign_id, job.committed_update)

    def _residual(self, job: Job) -> Path | None:
        """Return what rounding took from this client's last committed update, or None if there is none."""
        if not isinstance(job, TrainJob) or job.wire == "float32" or job.committed_update is None:
            return None
        residual = self._workspace.residual_of(job.campaign_id, job.committed_update)
        if residual is None:
            log.warning(
                "what rounding to %s took from this agent's last counted update is no longer on this machine: the "
                "update of round %d goes without it",
                job.wire,
                job.round,
            )
        return residual

    def _tell_level(self, job: Job) -> None:
        """Log once that the owner sees more of trainings than leaves, and again if that changes."""
        level = self._settings.policy.report
        if isinstance(job, TrainJob) and level != self._told_level:
            self._told_level = level
            if level != "live":
                log.info('losses and speed of single steps are shown here and not sent: policy.report = "%s"', level)

    async def _send(
        self, job: AnyJob, measured: Result, result: Result, folder: Path, heartbeat: LeaseHeartbeat
    ) -> None:
        """Upload the result's files and complete the task.

        Args:
            job: what was done.
            measured: its result with everything that was measured, for the owner.
            result: what of it leaves.
            folder: the result's files.
            heartbeat: keeps and ends the lease.
        """
        sent_bytes = 0
        for purpose, name, sha256 in files_of(result):
            n_bytes = (folder / name).stat().st_size
            await upload(self._api, heartbeat, purpose, folder / name, sha256)
            crash_points.reach(f"agent: {purpose} sent")
            sent_bytes += n_bytes
            log.info("sent %s, %s", name, size(n_bytes))
        if isinstance(job, TrainJob) and isinstance(result, TrainResult):
            # keep the state first: a crash after sending but before keeping would leave a committed update without it
            await asyncio.to_thread(
                self._workspace.keep_states,
                job.campaign_id,
                folder,
                result.delta,
                job.committed_update,
                job.state_versions,
            )
            crash_points.reach("agent: client state kept")
            if result.client_state_lost:
                log.warning(
                    "this agent's client state for %s is missing; it trained without, and reports that", job.algorithm
                )
        try:
            campaigns = await heartbeat.finish(lambda lease: self._api.put_result(lease, result))
        except CoordinatorRefused as error:
            if error.kind not in (ProblemType.BAD_UPDATE, ProblemType.RESULT_DIFFERS):
                raise
            log.error("the coordinator refused the result: %s", error)
        else:
            self.failures_in_a_row = 0
            await self.news.take(campaigns.campaigns)
            if isinstance(job, TrainJob) and isinstance(result, TrainResult):
                assert isinstance(measured, TrainResult)
                self.news.tell_round(job, measured, result, sent_bytes)
            if isinstance(job, EvaluateJob) and isinstance(measured, EvaluateResult):
                metrics = load_kind(job.training_kind).metrics
                self._results_told.tell_evaluation(job.campaign_id, job.round, measured.metrics, metrics)
            if isinstance(job, BenchmarkJob) and isinstance(measured, BenchmarkResult):
                self._results_told.tell_benchmarks(job.round, measured)
            if isinstance(result, PrepareResult):
                self._results_told.tell_prepared(job.campaign_id, result)
            log.info("done")


def _folder_name(task: Assignment, task_id: str) -> str:
    """Name of a task's folder. It covers all that the task asks, so a stored answer never serves another question.

    The tasks of one round share a folder, since a round is trained once.
    """
    if isinstance(task, TrainAssignment):
        asked = task.model_dump_json(exclude={"n_clients", "n_in_round", "committed_update"})
        return f"{task.campaign_id}.{task.round}.{sha256_hex(asked.encode())[:32]}"
    return f"{task_id}-{sha256_hex(task.model_dump_json().encode())[:32]}"


def _summary(job: AnyJob) -> str:
    campaign = f"campaign {job.campaign_name}"
    if isinstance(job, TrainJob):
        return f"train, round {job.round} of {campaign}"
    if isinstance(job, EvaluateJob):
        return f"evaluate adapter {job.round} of {campaign}"
    if isinstance(job, BenchmarkJob):
        names = ", ".join(each.name for each in job.benchmarks)
        return f"run {names} on adapter {job.round} of {campaign}"
    return f"{job.kind} for {campaign}"
