"""All trials of a comparison, several at a time: rates are chosen on validation rows, then the test rows are scored.

comparison.json   what is compared
comparison.lock   locked while a process runs it
data/seed-S/      the rows of each client, and of all
runs/…            a folder for each trial, as `fedloom simulate` makes it, with scores.json
results.csv       every score
plot.png          the picture
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

from pydantic import ValidationError

from agent.settings import AgentSettings
from fedloom.comparison.baselines import Baselines
from fedloom.comparison.entrants import EntrantKind, Hyperparameters, Method, entrants, rates_to_try
from fedloom.comparison.results import Outcome, Results
from fedloom.comparison.scoring import CRITERION, Rows, Scorer, Scores, is_better
from fedloom.comparison.spec import ComparisonSpec
from fedloom.comparison.trial import Stopped, Trial
from fedloom.errors import ComparisonError, TrialFailed
from fedloom.run_folder import run_folder
from fedloom.simulation.clients import write_records
from fedloom.simulation.plan import Kind, Plan
from fedloom.simulation.simulation import Simulation
from shared import algorithms
from shared.campaign import CampaignSpec
from shared.digest import sha256_file

VALIDATION, TEST = "validation", "test"
LOOK_S = 0.3


@dataclass
class Look:
    """How far a comparison is. stage: what it does now. working: how much of each trial under way is trained."""

    stage: str = ""
    done: int = 0
    total: int = 0
    working: dict[str, float] = field(default_factory=dict)


class Comparison:
    """A comparison in a folder, checked. Its block holds the folder; ``run`` resumes where an earlier run stopped.

    Args:
        campaign: the content of the spec's campaign file.
        settings: the content of the spec's settings file.
        names: the algorithms.
        seeds: the first one chooses the rates.
        at_once: trials that run at the same time.
        force: start over, and delete what the folder holds.

    Raises ComparisonError, SimulationError, PartitionError, TaskFailed if data cannot be read, and OSError; so does
    entering the block.
    """

    def __init__(
        self,
        spec: ComparisonSpec,
        campaign: CampaignSpec,
        settings: AgentSettings,
        names: Sequence[str],
        seeds: Sequence[int],
        folder: Path,
        *,
        baselines: Baselines = Baselines.ALL,
        at_once: int = 1,
        force: bool = False,
    ) -> None:
        self.spec = spec
        self.look = Look()
        self._campaign = campaign
        self._settings = settings
        self._seeds = list(seeds)
        self._folder = folder
        self._at_once = at_once
        self._entrants = list(entrants(names, campaign, spec.clients, baselines))
        self._check()
        source = self._simulation(campaign, spec.clients, seed=0).source
        files = {VALIDATION: spec.validation, TEST: spec.test}
        self._rows = {split: Rows.read(path, source, spec.score) for split, path in files.items()}
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

    def run(self, on_look: Callable[[Look], None]) -> Results:
        """Do all trials that are not done. on_look: called over and over with how far it is.

        Raises what a trial raises, other than TrialFailed: an entrant that fails is an outcome. Ctrl-C stops the
        trials; another run goes on with them.
        """
        first, *others = self._seeds
        with self._workers() as work:
            tried: dict[tuple[Method, Hyperparameters], Future[dict[str, Scores]]] = {}
            for entrant in self._entrants:
                choices = rates_to_try(entrant, self._campaign, self.spec.grid)
                for rates in choices:
                    splits = [VALIDATION] if len(choices) > 1 else []  # there is something to choose
                    tried[entrant, rates] = work(self._trial(entrant, rates, first), splits)
            self._wait(tried.values(), f"choosing rates on the validation rows, seed {first}", on_look)
            outcomes = [self._choose(entrant, tried) for entrant in self._entrants]
            finals = [
                (outcome, seed, work(self._trial(outcome.entrant, outcome.rates, seed), [TEST]))
                for seed in (first, *others)
                for outcome in outcomes
                if outcome.rates is not None
            ]
            seeds = f"seed{'s' if others else ''} {', '.join(map(str, self._seeds))}"
            self._wait([future for *_, future in finals], f"scoring the test rows, {seeds}", on_look)
        for outcome, seed, future in finals:
            try:
                outcome.scores[seed] = future.result()[TEST]
            except TrialFailed as failed:
                outcome.failures.append(str(failed))
        return Results(self.spec.name, self.spec.score.measure, self._seeds, outcomes)

    def _choose(
        self, entrant: Method, tried: Mapping[tuple[Method, Hyperparameters], Future[dict[str, Scores]]]
    ) -> Outcome:
        """The best rates by the criterion on the validation rows; the first of equally good ones."""
        measure = self.spec.score.measure
        outcome = Outcome(entrant)
        for (one, rates), future in tried.items():
            if one != entrant:
                continue
            try:
                scores = future.result().get(VALIDATION, {})
            except TrialFailed as failed:
                outcome.failures.append(str(failed))
                continue
            outcome.tried[rates] = scores
            best = outcome.tried[outcome.rates] if outcome.rates is not None else None
            key = CRITERION[measure]
            if best is None or is_better(measure, scores[key], best[key]):
                outcome.rates = rates
        if outcome.rates is not None:
            outcome.failures.clear()  # rates that led nowhere are what a grid is there to find
        return outcome

    def _trial(self, entrant: Method, rates: Hyperparameters, seed: int) -> Trial:
        campaign = entrant.campaign(self._campaign, rates, seed, self.spec.clients)
        simulation = None
        if campaign is not None:
            n_clients = self.spec.clients if entrant.kind is EntrantKind.ALGORITHM else 1
            simulation = self._simulation(campaign, n_clients, seed, self._data[seed].get(entrant.client))
        folder = self._folder / "runs" / f"seed-{seed}" / f"{entrant.slug}-{rates.slug}"
        return Trial(entrant, rates, seed, folder, simulation)

    def _simulation(self, campaign: CampaignSpec, n_clients: int, seed: int, path: Path | None = None) -> Simulation:
        """A simulation of the comparison's partition, or of one client with the rows in *path*."""
        plan = self.spec.partition.plan() if n_clients > 1 else Plan(Kind.IID)
        settings = self._settings
        if path is not None:
            source = settings.data[campaign.data.name].at(path)
            settings = settings.model_copy(update={"data": {campaign.data.name: source}})
        return Simulation(campaign, settings, n_clients, plan, seed)

    def _share_out(self, seed: int) -> dict[int | None, Path]:
        """Write the rows of each client by itself, as its federation has them; the files by client number."""
        folder = self._folder / "data" / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        parts = self._simulation(self._campaign, self.spec.clients, seed).partition()
        files: dict[int | None, Path] = {}
        for number, name in enumerate(parts.names):
            files[number] = folder / f"{name}.jsonl"
            write_records(files[number], parts.rows_of(number))
        return files

    def _check(self) -> None:
        """Raise ComparisonError for what cannot be compared, before anything runs."""
        campaign, grid = self._campaign, self.spec.grid
        if campaign.training.steps is None:
            raise ComparisonError("training.steps: a comparison needs equal steps for all; give steps, not epochs")
        if campaign.kind != "sft":
            raise ComparisonError(f"kind: answers are compared after sft; a campaign of kind {campaign.kind} has none")
        compared = {one.algorithm for one in self._entrants}
        own = {(one, name) for one in compared for name in algorithms.find(one).params.model_fields}
        known = {name for _, name in own} | {f"{one}.{name}" for one, name in own} | set(type(grid)().params)
        if unknown := [name for name in grid.params if name not in known]:
            raise ComparisonError(f"grid.params: no compared algorithm has a parameter {', '.join(unknown)}")
        for entrant in self._entrants:
            for rates in rates_to_try(entrant, campaign, grid):
                try:
                    entrant.campaign(campaign, rates, self._seeds[0], self.spec.clients)
                except ValidationError as error:
                    wrong = "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors())
                    raise ComparisonError(f"grid.params, {entrant.name}: {wrong}") from error

    def _facts(self) -> dict[str, Any]:
        """What makes a comparison the same. Algorithms, seeds and grid may grow: what is done is kept."""
        facts = self._simulation(self._campaign, self.spec.clients, seed=0).facts()
        facts |= {VALIDATION: sha256_file(self.spec.validation), TEST: sha256_file(self.spec.test)}
        del facts["seed"]
        facts["score"] = self.spec.score.model_dump(mode="json")
        return facts

    @contextmanager
    def _workers(self) -> Iterator[Callable[[Trial, Sequence[str]], Future[dict[str, Scores]]]]:
        """A function that has a trial run as soon as there is room for it, and scored on the rows of some splits."""
        stop = threading.Event()
        scorers: SimpleQueue[Scorer] = SimpleQueue()
        with ExitStack() as stack:
            for number in range(self._at_once):
                folder = self._folder / "scoring" / str(number)
                scorer = Scorer(self._campaign, self._settings, self.spec.score, folder)
                scorers.put(stack.enter_context(scorer))
            pool = stack.enter_context(ThreadPoolExecutor(self._at_once, thread_name_prefix="trial"))

            def do(trial: Trial, splits: Sequence[str]) -> dict[str, Scores]:
                if stop.is_set():
                    raise Stopped
                scorer, name = scorers.get(), str(trial)
                self.look.working[name] = 0.0
                try:
                    rows = {split: self._rows[split] for split in splits}
                    return trial.run(scorer, rows, stop, lambda share: self.look.working.update({name: share}))
                finally:
                    self.look.working.pop(name)
                    scorers.put(scorer)

            try:
                yield lambda trial, splits: pool.submit(do, trial, splits)
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _wait(self, futures: Iterable[Future[Any]], stage: str, on_look: Callable[[Look], None]) -> None:
        """Until all are done, showing how far they are. Raises what ended one, other than TrialFailed."""
        waiting = set(futures)
        self.look.stage, self.look.total, self.look.done = stage, len(waiting), 0
        while waiting:
            on_look(self.look)
            done, waiting = wait(waiting, timeout=LOOK_S)
            for future in done:
                error = future.exception()
                if error is not None and not isinstance(error, TrialFailed):
                    raise error
            self.look.done += len(done)
        on_look(self.look)
