"""Computes for its owner what a held update changes: held-out loss and answers, before and after."""

import asyncio
import logging

from agent.child.supervisor import ChildDied, Supervisor
from agent.configuration.live import LiveSettings
from agent.configuration.settings import AgentSettings
from agent.errors import AgentError, RecordUnusable
from agent.orders.job_files import DELTA_FILE
from agent.orders.protocol import Failed, OutOfMemory
from agent.orders.review import Reviewed, ReviewRequest
from agent.record.held import HeldUpdate
from agent.workspace import Workspace

log = logging.getLogger(__name__)

_TRIES = 3
"""Most times that a review is begun: one may end the whole agent, by its need of memory."""


class Reviewer:
    """Reviews held updates, one at a time."""

    def __init__(self, workspace: Workspace, supervisor: Supervisor, settings: LiveSettings) -> None:
        self._workspace = workspace
        self._supervisor = supervisor
        self._settings = settings
        self._held = workspace.record.held
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look for updates to review now: before the child gets its next task."""
        self._wake.set()

    async def attend(self) -> None:
        """Review what is held and not reviewed, until cancelled: at the start, and whenever it is woken."""
        while True:
            self._wake.clear()
            try:
                await self.review_all()
            except (AgentError, OSError) as error:  # the next task meets the same, and says so
                log.debug("held updates were not reviewed: %s", error)
            await self._wake.wait()

    async def review_all(self) -> None:
        """Review the updates that are held and not reviewed. Raises RecordUnusable."""
        for update in await asyncio.to_thread(self._held.kept):
            if update.is_held and update.review is None:
                async with self._supervisor.turn:
                    reviewed = await self._review(update)
                await asyncio.to_thread(self._held.keep_review, update, reviewed)
                log.info("round %d of campaign %s: %s", update.round, update.job.campaign_name, _in_words(reviewed))

    async def _review(self, update: HeldUpdate) -> Reviewed:
        """What an update changes, or why that is not known."""
        if update.review_tries >= _TRIES:
            return Reviewed(problem=f"the agent ended {_TRIES} times while it compared them")
        await asyncio.to_thread(self._held.begin_review, update)
        try:
            return await self._ordered(await self._settings.current(), update)
        except ChildDied as died:
            why = "out of memory" if died.out_of_memory else str(died)
            return Reviewed(problem=why)
        except RecordUnusable:
            raise
        except Exception as error:  # whatever it is, the hold stands, and its owner reads why nothing is shown
            log.debug("no review", exc_info=True)
            return Reviewed(problem=str(error) or type(error).__name__)

    async def _ordered(self, settings: AgentSettings, update: HeldUpdate) -> Reviewed:
        job = update.job
        source = settings.source(job.data.name)
        cached = self._workspace.cached_adapter
        adapter = await asyncio.to_thread(cached, job.adapter.sha256)
        reference = await asyncio.to_thread(cached, job.reference.sha256) if job.reference is not None else None
        if source is None:
            return Reviewed(problem=f"agent.toml names no data {job.data.name}")
        if adapter is None or (job.reference is not None and reference is None):
            return Reviewed(problem="the adapter that the round started from is no longer on this machine")
        compute = settings.compute
        micro_batch = self._workspace.micro_batch(job.model_key, job.training.max_length, compute.micro_batch)
        folder = self._workspace.task_folder(update.folder)
        while True:
            order = ReviewRequest(
                compute=compute,
                job=job,
                folder=folder,
                cache=self._workspace.cache,
                model_path=settings.models.get(job.base.model),
                data=source,
                adapter=adapter,
                update=folder / DELTA_FILE,
                reference=reference,
                micro_batch=micro_batch,
                remote_code=settings.policy.remote_code,
            )
            answer = await self._supervisor.run(order, self._workspace.log_file(update.task_id), lambda _: None)
            if isinstance(answer, Reviewed):
                return answer
            if isinstance(answer, Failed):
                return Reviewed(problem=answer.private or answer.failure.message)
            assert isinstance(answer, OutOfMemory)
            if micro_batch == 1:
                return Reviewed(problem="out of memory")
            micro_batch //= 2


def _in_words(reviewed: Reviewed) -> str:
    if reviewed.loss_before is None or reviewed.loss_after is None:
        return f"before and after cannot be compared: {reviewed.problem}"
    return (
        f"held-out loss {reviewed.loss_before:.4f} -> {reviewed.loss_after:.4f} with the held update, on "
        f"{reviewed.n_rows} of your rows"
    )
