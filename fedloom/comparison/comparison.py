"""A comparison from its file to its results.

comparison.json   what is compared
comparison.lock   locked while a process runs it
data/seed-S/      the rows of each client, one file a client
runs/…            a folder for each trial, as `fedloom simulate` makes it, with scores.json, its own evaluation/, and
                  choosing/ where hyperparameters are chosen by tasks
results.csv       every score
plot.png          the figure
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from agent.configuration.processor import cpu_dtype
from agent.configuration.settings import AgentSettings
from fedloom.comparison.baselines import Baselines
from fedloom.comparison.choosing import chosen
from fedloom.comparison.measuring import measuring
from fedloom.comparison.parts import EVALUATION, IN_WORDS
from fedloom.comparison.planning.checks import checked_grid
from fedloom.comparison.planning.fields import value_of
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import MethodKind, methods
from fedloom.comparison.planning.points import count_points, grid_points
from fedloom.comparison.planning.trials import Trials
from fedloom.comparison.results import MethodResult, Results
from fedloom.comparison.running.trial_scores import TrialScores
from fedloom.comparison.running.workers import OnProgress, ScoredOn, Workers, working
from fedloom.comparison.scoring import Scorer
from fedloom.comparison.showing.remarks import AMOUNT, remarks
from fedloom.comparison.spec import ComparisonSpec
from fedloom.errors import ComparisonError, TrialFailed
from fedloom.run_folder import RunFolder, run_folder
from shared.campaign.spec import CampaignSpec


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

    Raises FieldError for fields that do not fit, ComparisonError, EvaluationError, CampaignFileError of a suite's file,
    SimulationError, PartitionError, TaskFailed if data cannot be read, and OSError; so does entering the block.
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
        if campaign.training.steps is None:
            raise ComparisonError("training.steps: every method takes the same number of steps; set steps, not epochs")
        if campaign.kind != "sft":
            raise ComparisonError(f"kind: only campaigns of kind sft can be compared; this one is {campaign.kind}")
        self._methods = list(methods(algorithm_names, campaign, spec.clients, baselines))
        grid = checked_grid(spec.grid, campaign, self._methods, seeds[0], spec.clients)
        self.spec = spec.model_copy(update={"grid": grid})
        self._campaign = campaign
        self._settings = settings
        self._seeds = list(seeds)
        self._folder = folder
        self._at_once = at_once
        self._force = force
        self._trials = Trials(self.spec, campaign, settings, folder)
        self._measuring = measuring(self.spec, self._trials.source(), run_untrusted_code=run_untrusted_code)
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            held = stack.enter_context(run_folder(self._folder, "comparison", ComparisonError))
            self._settle_precision(held, held.begin(self._trials.facts(), force=self._force))
            for seed in self._seeds:
                self._trials.share_out(seed)
            self._exit = stack.pop_all()
        return self

    def _settle_precision(self, held: RunFolder, state: dict[str, Any]) -> None:
        """Have all trials and scores use one precision on a CPU, decided here once if the campaign leaves it open."""
        if self._campaign.base.cpu_dtype != "auto":
            return
        if "cpu_dtype" not in state:
            state["cpu_dtype"] = cpu_dtype("auto", self._settings.compute)
            held.write(state)
        base = self._campaign.base.decided(state["cpu_dtype"])
        self._campaign = self._campaign.model_copy(update={"base": base})
        self._trials = Trials(self.spec, self._campaign, self._settings, self._folder)

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    @property
    def notes(self) -> list[str]:
        """What to know before anything is trained: what makes the scores doubtful, tasks that are not run, and what of
        the campaign file does not count here.

        The results have only the doubts, beside why there is no number.
        """
        table = self._measuring.evaluations.get(EVALUATION)
        notes = self._measuring.doubts + (table.not_run if table is not None else [])
        if self._campaign.evaluation.benchmarks:
            notes.append("the campaign's own benchmarks are skipped: the comparison has an evaluation of its own")
        return notes

    @property
    def n_trainings(self) -> tuple[int, int]:
        """Trainings with the first seed, in which hyperparameters are chosen, and with all others.

        Fewer are trained where an earlier run did some, or a client is never drawn.
        """
        trained = [method for method in self._methods if method.kind is not MethodKind.BASE]
        first = sum(count_points(method, self._campaign, self.spec.grid) for method in trained)
        return first, len(trained) * (len(self._seeds) - 1)

    def run(self, on_progress: OnProgress, on_stop: Callable[[], None] = lambda: None) -> Results:
        """Run all trials that are not done.

        Raises what a trial raises, except TrialFailed: a failed method is a result. Ctrl-C stops the trials; another
        run continues them.

        Args:
            on_progress: called every ``PROGRESS_EVERY_S`` seconds and after each stage.
            on_stop: called at Ctrl-C, before the trials are ended.
        """
        measured = self._measuring
        scored_on = ScoredOn(measured.rows, measured.evaluations)
        with working(scored_on, self._scorers(), on_progress, on_stop) as workers:
            base = self._score_base(workers)
            measured.check_choosing(base.result())
            ranked_by = measured.ranked_by(base.result())
            results = self._choose(workers)
            self._score(workers, results, base)
        return Results(
            self.spec.name,
            ranked_by,
            self._seeds,
            results,
            measured.doubts,
            list(remarks(results, {name: value_of(self._campaign, name) for name in AMOUNT})),
            chosen_by=measured.chosen_by if any(len(each.tried) > 1 for each in results) else None,
            is_ordered=self.spec.rank is not None,
        )

    def _scorers(self) -> list[Scorer]:
        folders = [self._folder / "scoring" / str(number) for number in range(self._at_once)]
        spec = self.spec
        return [Scorer(self._campaign, self._settings, spec.score, each, measures=spec.measures) for each in folders]

    def _score_base(self, workers: Workers) -> Future[TrialScores]:
        """Score the base model, so that what cannot be scored ends the comparison before anything is trained.

        Raises what a scorer and an evaluation raise; its result is TrialFailed if a score is not a number.
        """
        base = self._methods[0]
        [hyperparameters] = grid_points(base, self._campaign, self.spec.grid)
        trial = self._trials.trial(base, hyperparameters, self._seeds[0])
        scored = workers.submit(trial, [self._measuring.for_choosing, *self._measuring.for_table])
        workers.wait([scored], "scoring the base model")
        return scored

    def _choose(self, workers: Workers) -> list[MethodResult]:
        """Train every choice of hyperparameters with the first seed, and choose among them, method by method."""
        first = self._seeds[0]
        tried: list[dict[Hyperparameters, Future[TrialScores]]] = []
        for method in self._methods:
            points = list(grid_points(method, self._campaign, self.spec.grid))
            parts = [self._measuring.for_choosing] * (len(points) > 1)  # a single one needs no score to be chosen
            tried.append({each: workers.submit(self._trials.trial(method, each, first), parts) for each in points})
        stage = f"choosing hyperparameters on {self._measuring.chosen_by.measured_on}, seed {first}"
        workers.wait([future for futures in tried for future in futures.values()], stage)
        return [
            chosen(method, futures, self._measuring.chosen_by, self._measuring.for_choosing)
            for method, futures in zip(self._methods, tried, strict=True)
        ]

    def _score(self, workers: Workers, results: Sequence[MethodResult], base: Future[TrialScores]) -> None:
        """Train what was chosen with all seeds, and score it for the table."""

        def scored(result: MethodResult, hyperparameters: Hyperparameters, seed: int) -> Future[TrialScores]:
            if result.method.kind is MethodKind.BASE:
                return base  # nothing is trained: it is the same with every seed
            return workers.submit(self._trials.trial(result.method, hyperparameters, seed), self._measuring.for_table)

        futures = [
            (result, seed, scored(result, result.hyperparameters, seed))
            for seed in self._seeds
            for result in results
            if result.hyperparameters is not None
        ]
        seeds = f"seed{'s' if len(self._seeds) > 1 else ''} {', '.join(map(str, self._seeds))}"
        what = " and ".join(IN_WORDS[each] for each in self._measuring.for_table)
        workers.wait([future for *_, future in futures], f"scoring {what}, {seeds}")
        for result, seed, future in futures:
            try:
                result.add(seed, future.result())
            except TrialFailed as failed:
                result.failures.append(str(failed))
