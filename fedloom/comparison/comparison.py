"""All trials of a comparison, several at a time: hyperparameters are chosen on validation rows, then the test rows are
scored.

comparison.json   what is compared
comparison.lock   locked while a process runs it
data/seed-S/      the rows of each client, one file a client
runs/…            a folder for each trial, as `fedloom simulate` makes it, with scores.json and its own evaluation/
results.csv       every score
plot.png          the figure
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

from pydantic import ValidationError

from agent.data.notices import Occurrences
from agent.data.source import DataSource
from agent.settings import AgentSettings
from fedloom.comparison.baselines import Baselines
from fedloom.comparison.criterion import Criterion, criterion_of
from fedloom.comparison.methods import Hyperparameters, Method, MethodKind, grid_points, methods
from fedloom.comparison.results import MethodResult, Results
from fedloom.comparison.rows import Rows, training_rows
from fedloom.comparison.scoring import Scorer
from fedloom.comparison.spec import ComparisonSpec
from fedloom.comparison.tasks.evaluation import TaskEvaluation
from fedloom.comparison.trial import Stopped, Trial
from fedloom.comparison.trial_scores import TrialScores
from fedloom.errors import ComparisonError, TrialFailed
from fedloom.run_folder import run_folder
from fedloom.simulation.clients import write_records
from fedloom.simulation.partition_plan import PartitionKind, PartitionPlan
from fedloom.simulation.simulation import Simulation
from shared import algorithms
from shared.campaign.spec import CampaignSpec
from shared.digest import sha256_file

VALIDATION, TEST, EVALUATION = "validation", "test", "evaluation"
Submit = Callable[[Trial, Sequence[str]], Future[TrialScores]]
"""Queues a trial. Its arguments are the trial and what to score it on: names of splits, and EVALUATION."""
_IN_WORDS = {TEST: "the test rows", EVALUATION: "the evaluation tasks"}
PROGRESS_EVERY_S = 0.3
_ABORT_EVERY_S = 0.1


@dataclass
class ComparisonProgress:
    """How far a comparison is.

    Args:
        stage: The current step, in a few words.
        done: Trials of the stage that have ended.
        total: All trials of the stage.
        running: For each running trial, the fraction of its training that is done.
    """

    stage: str = ""
    done: int = 0
    total: int = 0
    running: dict[str, float] = field(default_factory=dict)


class Comparison:
    """A comparison in a folder, checked. Its block holds the folder; ``run`` resumes where an earlier run stopped.

    Args:
        campaign: Content of the spec's campaign file.
        settings: Content of the spec's settings file.
        algorithm_names: The algorithms to compare.
        seeds: One campaign a seed; the hyperparameters are chosen with the first.
        at_once: Trials that run at the same time.
        force: Start over, and delete what the folder holds.
        run_untrusted_code: Evaluation tasks may run code that a model wrote without a sandbox.

    Raises ComparisonError, EvaluationError, CampaignFileError of a suite's file, SimulationError, PartitionError,
    TaskFailed if data cannot be read, and OSError; so does entering the block.
    """

    def __init__(
        self,
        spec: ComparisonSpec,
        campaign: CampaignSpec,
        settings: AgentSettings,
        algorithm_names: Sequence[str],
        seeds: Sequence[int],
        folder: Path,
        *,
        baselines: Baselines = Baselines.ALL,
        at_once: int = 1,
        force: bool = False,
        run_untrusted_code: bool = False,
    ) -> None:
        self.spec = spec
        self.progress = ComparisonProgress()
        self._campaign = campaign
        self._settings = settings
        self._seeds = list(seeds)
        self._folder = folder
        self._at_once = at_once
        self._methods = list(methods(algorithm_names, campaign, spec.clients, baselines))
        self._check()
        source = self._simulation(campaign, spec.clients, seed=0).source
        files = {VALIDATION: spec.validation, TEST: spec.test}
        self._rows = {split: Rows.read(path, source, spec.score) for split, path in files.items() if path is not None}
        self._final = [TEST] * (spec.test is not None) + [EVALUATION] * (spec.evaluation is not None)
        self._doubts = self._doubts_of(source)
        self._evaluation = None
        if spec.evaluation is not None:
            self._evaluation = TaskEvaluation(spec.evaluation, source, run_untrusted_code=run_untrusted_code)
            self._doubts += self._evaluation.overlaps
        self._force = force
        self._data: dict[int, dict[int | None, Path]] = {}
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            held = stack.enter_context(run_folder(self._folder, "comparison", ComparisonError))
            held.begin(self._facts(), force=self._force)
            self._data = {seed: self._share_out(seed) for seed in self._seeds}
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def run(
        self, on_progress: Callable[[ComparisonProgress], None], on_stop: Callable[[], None] = lambda: None
    ) -> Results:
        """Run all trials that are not done.

        Raises what a trial raises, except TrialFailed: a failed method is a result. Ctrl-C stops the trials; another
        run continues them.

        Args:
            on_progress: called every PROGRESS_EVERY_S seconds and after each stage.
            on_stop: called at Ctrl-C, before the trials are ended.
        """
        first, *others = self._seeds
        with self._workers(on_stop) as submit:
            base = self._score_base(submit, on_progress)
            ranked_by = self._ranked_by(base.result())
            tried: dict[tuple[Method, Hyperparameters], Future[TrialScores]] = {}
            for method in self._methods:
                points = grid_points(method, self._campaign, self.spec.grid)
                for hyperparameters in points:
                    splits = [VALIDATION] if len(points) > 1 else []  # a single point needs no validation score
                    tried[method, hyperparameters] = submit(self._trial(method, hyperparameters, first), splits)
            self._wait(tried.values(), f"choosing hyperparameters on the validation rows, seed {first}", on_progress)
            results = [self._choose(method, tried) for method in self._methods]

            def final(method: Method, hyperparameters: Hyperparameters, seed: int) -> Future[TrialScores]:
                if method.kind is MethodKind.BASE:
                    return base  # nothing is trained: it is the same with every seed
                return submit(self._trial(method, hyperparameters, seed), self._final)

            finals = [
                (result, seed, final(result.method, result.hyperparameters, seed))
                for seed in (first, *others)
                for result in results
                if result.hyperparameters is not None
            ]
            seeds = f"seed{'s' if others else ''} {', '.join(map(str, self._seeds))}"
            what = " and ".join(_IN_WORDS[each] for each in self._final)
            self._wait([future for *_, future in finals], f"scoring {what}, {seeds}", on_progress)
        for result, seed, future in finals:
            try:
                scores = future.result()
                result.scores[seed] = scores.rows.get(TEST, {})
                result.tasks[seed] = scores.tasks or []
            except TrialFailed as failed:
                result.failures.append(str(failed))
        return Results(self.spec.name, ranked_by, self._seeds, results, self._doubts)

    @property
    def notes(self) -> list[str]:
        """What to know before anything is trained: what makes the scores doubtful, and tasks that are not run.

        The results have only the doubts, beside why there is no number.
        """
        return self._doubts + (self._evaluation.not_run if self._evaluation is not None else [])

    def _score_base(self, submit: Submit, on_progress: Callable[[ComparisonProgress], None]) -> Future[TrialScores]:
        """Score the base model, so that what cannot be scored ends the comparison before anything is trained.

        Raises what a scorer and an evaluation raise; its result is TrialFailed if a score is not a number.
        """
        base = self._methods[0]
        [hyperparameters] = grid_points(base, self._campaign, self.spec.grid)
        scored = submit(self._trial(base, hyperparameters, self._seeds[0]), [VALIDATION, *self._final])
        self._wait([scored], "scoring the base model", on_progress)
        return scored

    def _ranked_by(self, base: TrialScores) -> Criterion:
        """What the rows of the table are ranked by: the measure on the test rows, else the first metric with a value.

        Raises ComparisonError if no task gives a value. base: the scores of the base model.
        """
        if TEST in self._rows:
            return criterion_of(self.spec.score.measure)
        for score in base.tasks or ():
            if score.value is not None and score.task:
                return Criterion(score.key, score.lower_is_better, f"the items of {score.task}")
        reasons = dict.fromkeys(f"{score.task}: {score.not_run}" for score in base.tasks or () if score.task)
        raise ComparisonError(f"evaluation: no task can run: {'; '.join(reasons)}")

    def _doubts_of(self, source: DataSource) -> list[str]:
        """What makes scores on these rows doubtful. Raises ComparisonError if no method can learn what is scored."""
        notices = Occurrences()
        training = training_rows(source, notices)
        notes = list(map(str, notices.problems))
        notes += [note for rows in self._rows.values() for note in rows.notes(training)]
        validation, test = self._rows[VALIDATION], self._rows.get(TEST)
        if test is not None and (repeated := len(test.shared_with(validation.rows))):
            name = validation.path.name
            notes.append(f"{test.path.name}: {repeated} of {len(test.rows)} rows are in {name} too")
        return notes

    def _choose(
        self, method: Method, tried: Mapping[tuple[Method, Hyperparameters], Future[TrialScores]]
    ) -> MethodResult:
        """The best hyperparameters by the criterion on the validation rows; the first if several are equally good."""
        criterion = criterion_of(self.spec.score.measure)
        result = MethodResult(method)
        for (tried_method, hyperparameters), future in tried.items():
            if tried_method != method:
                continue
            try:
                scores = future.result().rows.get(VALIDATION, {})
            except TrialFailed as failed:
                result.failures.append(str(failed))
                continue
            result.tried[hyperparameters] = scores
            best = result.tried[result.hyperparameters] if result.hyperparameters is not None else None
            if best is None or criterion.is_better(scores[criterion.metric], best[criterion.metric]):
                result.hyperparameters = hyperparameters
        if result.hyperparameters is not None:
            result.failures.clear()  # a grid is expected to hold values that fail
        return result

    def _trial(self, method: Method, hyperparameters: Hyperparameters, seed: int) -> Trial:
        campaign = method.campaign(self._campaign, hyperparameters, seed, self.spec.clients)
        simulation = None
        if campaign is not None:
            n_clients = self.spec.clients if method.kind is MethodKind.ALGORITHM else 1
            simulation = self._simulation(campaign, n_clients, seed, self._data[seed].get(method.client))
        folder = self._folder / "runs" / f"seed-{seed}" / f"{method.folder_name}-{hyperparameters.folder_name}"
        return Trial(method, hyperparameters, seed, folder, simulation)

    def _simulation(self, campaign: CampaignSpec, n_clients: int, seed: int, path: Path | None = None) -> Simulation:
        """A simulation of the comparison's partition, or of one client. path: the rows; None for all rows."""
        plan = self.spec.partition.plan() if n_clients > 1 else PartitionPlan(PartitionKind.IID)
        settings = self._settings
        if path is not None:
            source = settings.data[campaign.data.name].at(path)
            settings = settings.model_copy(update={"data": {campaign.data.name: source}})
        return Simulation(campaign, settings, n_clients, plan, seed)

    def _share_out(self, seed: int) -> dict[int | None, Path]:
        """Write each client's rows of the partition with this seed to a file, and return the files by client number."""
        folder = self._folder / "data" / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        partition = self._simulation(self._campaign, self.spec.clients, seed).partition()
        files: dict[int | None, Path] = {}
        for number, name in enumerate(partition.names):
            files[number] = folder / f"{name}.jsonl"
            write_records(files[number], partition.rows_of(number))
        return files

    def _check(self) -> None:
        """Raise ComparisonError if the campaign or the grid cannot be compared, before anything runs."""
        campaign, grid = self._campaign, self.spec.grid
        if campaign.training.steps is None:
            raise ComparisonError("training.steps: every method takes the same number of steps; set steps, not epochs")
        if campaign.kind != "sft":
            raise ComparisonError(f"kind: only campaigns of kind sft can be compared; this one is {campaign.kind}")
        compared = {method.algorithm for method in self._methods}
        own = {(algorithm, name) for algorithm in compared for name in algorithms.find(algorithm).params.model_fields}
        known = {name for _, name in own} | {f"{algorithm}.{name}" for algorithm, name in own}
        known |= set(type(grid)().params)
        if unknown := [name for name in grid.params if name not in known]:
            raise ComparisonError(
                f"grid.params: none of the compared algorithms has the parameter {', '.join(unknown)}"
            )
        for method in self._methods:
            for hyperparameters in grid_points(method, campaign, grid):
                try:
                    method.campaign(campaign, hyperparameters, self._seeds[0], self.spec.clients)
                except ValidationError as error:
                    reasons = "; ".join(detail["msg"].removeprefix("Value error, ") for detail in error.errors())
                    raise ComparisonError(f"grid.params, {method.name}: {reasons}") from error

    def _facts(self) -> dict[str, Any]:
        """What makes a comparison the same. Algorithms, seeds and grid may grow: what is done is kept."""
        facts = self._simulation(self._campaign, self.spec.clients, seed=0).facts()
        files = {VALIDATION: self.spec.validation, TEST: self.spec.test}
        facts |= {split: sha256_file(path) if path is not None else None for split, path in files.items()}
        del facts["seed"]
        facts["score"] = self.spec.score.model_dump(mode="json")
        return facts

    @contextmanager
    def _workers(self, on_stop: Callable[[], None]) -> Iterator[Submit]:
        """A function that queues a trial. An error or Ctrl-C ends all trials at once."""
        stop = threading.Event()
        futures: list[Future[TrialScores]] = []
        all_scorers: list[Scorer] = []
        scorers: SimpleQueue[Scorer] = SimpleQueue()
        with ExitStack() as stack:
            for number in range(self._at_once):
                folder = self._folder / "scoring" / str(number)
                scorer = Scorer(self._campaign, self._settings, self.spec.score, folder)
                all_scorers.append(stack.enter_context(scorer))
                scorers.put(scorer)
            pool = stack.enter_context(ThreadPoolExecutor(self._at_once, thread_name_prefix="trial"))

            def run_trial(trial: Trial, scored_on: Sequence[str]) -> TrialScores:
                if stop.is_set():
                    raise Stopped
                scorer, name = scorers.get(), str(trial)
                running = self.progress.running
                running[name] = 0.0
                try:
                    rows = {split: rows for split, rows in self._rows.items() if split in scored_on}
                    evaluation = self._evaluation if EVALUATION in scored_on else None
                    return trial.run(scorer, rows, evaluation, stop, lambda part: running.update({name: part}))
                finally:
                    running.pop(name, None)
                    scorers.put(scorer)

            def submit(trial: Trial, scored_on: Sequence[str]) -> Future[TrialScores]:
                futures.append(pool.submit(run_trial, trial, scored_on))
                return futures[-1]

            try:
                yield submit
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    on_stop()
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                # again and again: a trial may be about to start another child
                while not all(future.done() for future in futures):
                    for scorer in all_scorers:
                        scorer.abort()
                    time.sleep(_ABORT_EVERY_S)
                raise

    def _wait(
        self, futures: Iterable[Future[Any]], stage: str, on_progress: Callable[[ComparisonProgress], None]
    ) -> None:
        """Wait for all trials of a stage. Raises the error of a trial, except TrialFailed."""
        waiting = set(futures)
        progress = self.progress
        progress.stage, progress.total, progress.done = stage, len(waiting), 0
        while waiting:
            on_progress(progress)
            done, waiting = wait(waiting, timeout=PROGRESS_EVERY_S)
            for future in done:
                error = future.exception()
                if error is not None and not isinstance(error, TrialFailed):
                    raise error
            progress.done += len(done)
        on_progress(progress)
