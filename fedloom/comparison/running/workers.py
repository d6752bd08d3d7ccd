"""Runs trials, several at a time."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from fedloom.comparison.rows import Rows
from fedloom.comparison.running.progress import ComparisonProgress
from fedloom.comparison.running.trial import Stopped, Trial
from fedloom.comparison.running.trial_scores import TrialScores
from fedloom.comparison.scoring import Scorer
from fedloom.comparison.tasks.evaluation import TaskEvaluation
from fedloom.errors import TrialFailed

OnProgress = Callable[[ComparisonProgress], None]
PROGRESS_EVERY_S = 0.3
_ABORT_EVERY_S = 0.1


@dataclass(frozen=True)
class ScoredOn:
    """All that models can be scored on. rows: by split. evaluations: tasks, by what they are for."""

    rows: Mapping[str, Rows]
    evaluations: Mapping[str, TaskEvaluation]


class Workers:
    """Trials that are queued and waited for; see ``working``."""

    def __init__(
        self, scored_on: ScoredOn, scorers: Sequence[Scorer], pool: ThreadPoolExecutor, on_progress: OnProgress
    ) -> None:
        self._scored_on = scored_on
        self._scorers = scorers
        self._free: SimpleQueue[Scorer] = SimpleQueue()
        for scorer in scorers:
            self._free.put(scorer)
        self._pool = pool
        self._on_progress = on_progress
        self._progress = ComparisonProgress()
        self._futures: list[Future[TrialScores]] = []
        self._stop = threading.Event()

    def submit(self, trial: Trial, parts: Sequence[str]) -> Future[TrialScores]:
        """Queue a trial. parts: names of what to score it on, of rows and of tasks."""
        self._futures.append(self._pool.submit(self._run, trial, parts))
        return self._futures[-1]

    def wait(self, futures: Iterable[Future[Any]], stage: str) -> None:
        """Wait for all trials of a stage. Raises the error of a trial, except TrialFailed."""
        waiting = set(futures)
        progress = self._progress
        progress.stage, progress.total, progress.done = stage, len(waiting), 0
        while waiting:
            self._on_progress(progress)
            done, waiting = wait(waiting, timeout=PROGRESS_EVERY_S)
            for future in done:
                error = future.exception()
                if error is not None and not isinstance(error, TrialFailed):
                    raise error
            progress.done += len(done)
        self._on_progress(progress)

    def abort(self) -> None:
        """End all trials at once, and return when they have ended."""
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        # again and again: a trial may be about to start another child
        while not all(future.done() for future in self._futures):
            for scorer in self._scorers:
                scorer.abort()
            time.sleep(_ABORT_EVERY_S)

    def _run(self, trial: Trial, parts: Sequence[str]) -> TrialScores:
        if self._stop.is_set():
            raise Stopped
        scorer, name, running = self._free.get(), str(trial), self._progress.running
        running[name] = 0.0
        try:
            rows = {split: rows for split, rows in self._scored_on.rows.items() if split in parts}
            evaluations = {part: each for part, each in self._scored_on.evaluations.items() if part in parts}
            return trial.run(scorer, rows, evaluations, self._stop, lambda part: running.update({name: part}))
        finally:
            running.pop(name, None)
            self._free.put(scorer)


@contextmanager
def working(
    scored_on: ScoredOn, scorers: Sequence[Scorer], on_progress: OnProgress, on_stop: Callable[[], None]
) -> Iterator[Workers]:
    """Workers for the length of the block. An error or Ctrl-C in it ends all trials at once.

    Args:
        scored_on: what models can be scored on.
        scorers: one for each trial that runs at the same time.
        on_progress: called every PROGRESS_EVERY_S seconds and after each stage.
        on_stop: called at Ctrl-C, before the trials are ended.
    """
    with ExitStack() as stack:
        for scorer in scorers:
            stack.enter_context(scorer)
        pool = stack.enter_context(ThreadPoolExecutor(len(scorers), thread_name_prefix="trial"))
        workers = Workers(scored_on, scorers, pool, on_progress)
        try:
            yield workers
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                on_stop()
            workers.abort()
            raise
