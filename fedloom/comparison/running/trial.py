"""One simulated campaign of a method in its own folder, and its scores. A second run continues the first."""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.orders.on_base.model import LoraFile
from fedloom.adapters.folder import WEIGHTS_FILE
from fedloom.comparison.planning.held_out import decides_by_evaluation
from fedloom.comparison.planning.hyperparameters import Hyperparameters
from fedloom.comparison.planning.methods import Method
from fedloom.comparison.rows import Rows
from fedloom.comparison.running.trial_scores import TaskNumbers, Training, TrialScores, as_stored
from fedloom.comparison.scoring import Scorer, Scores
from fedloom.comparison.tasks.evaluation import TaskEvaluation
from fedloom.comparison.tasks.scores import TaskScore, values_of
from fedloom.errors import TrialFailed
from fedloom.simulation.run import ADAPTER_FOLDER, running
from fedloom.simulation.simulation import Simulation
from shared.states import CampaignState

POLL_S = 1.0


class Stopped(Exception):
    """The comparison was stopped while this trial ran."""


@dataclass(frozen=True)
class Trial:
    """One method with one choice of hyperparameters and one seed. simulation: None scores the base model untrained."""

    method: Method
    hyperparameters: Hyperparameters
    seed: int
    folder: Path
    simulation: Simulation | None

    def __str__(self) -> str:
        return f"{self.method.name}, {self.hyperparameters}, seed {self.seed}"

    def run(
        self,
        scorer: Scorer,
        rows: Mapping[str, Rows],
        evaluations: Mapping[str, TaskEvaluation],
        stop: threading.Event,
        on_progress: Callable[[float], None],
    ) -> TrialScores:
        """Train unless an earlier run did, score on all that has no score yet, and return the scores.

        Args:
            rows: The rows of each split, by its name.
            evaluations: The tasks to ask too, by what they are for, which names the folder of their replies.
            stop: Set to end the training early.
            on_progress: Called with the fraction of the training that is done.

        Raises Stopped, TrialFailed, and what a simulation, a scorer and an evaluation raise.
        """
        facts = as_stored(self.simulation.facts() if self.simulation is not None else None)
        scores = TrialScores.read(self.folder, facts)
        if scores is None:
            scores = TrialScores(training=self._train(stop, on_progress))
            scores.write(self.folder, facts)
        on_progress(1.0)
        for split, own in rows.items():
            if not scorer.metrics <= scores.rows.get(split, {}).keys():
                if stop.is_set():
                    raise Stopped
                scores.rows[split] = self._finite(scorer.scores(own, self._adapter()), f"{split} rows")
                scores.write(self.folder, facts)
        for part, evaluation in evaluations.items():
            asked = as_stored(evaluation.facts)
            if part not in scores.tasks or scores.tasks[part].facts != asked:
                found = self._ask(evaluation, part, scorer, stop)
                self._finite(values_of(found), "evaluation's items")
                scores.tasks[part] = TaskNumbers(asked, found)
                if not any(score.is_void for score in found):  # else another run asks again, from stored replies
                    scores.write(self.folder, facts)
        return TrialScores(
            {split: {metric: scores.rows[split][metric] for metric in sorted(scorer.metrics)} for split in rows},
            {part: scores.tasks[part] for part in evaluations},
            scores.training,
        )

    def _ask(self, evaluation: TaskEvaluation, part: str, scorer: Scorer, stop: threading.Event) -> list[TaskScore]:
        def on_progress() -> None:
            if stop.is_set():
                raise Stopped

        model = scorer.model(self.method.folder_name, self._adapter())
        return evaluation.scores(model, self.folder / part, on_progress)

    def _train(self, stop: threading.Event, on_progress: Callable[[float], None]) -> Training | None:
        if self.simulation is None:
            return None
        with running(self.simulation, self.folder) as run:
            while True:
                campaign = run.campaign()
                on_progress(run.fraction_done(campaign))
                if campaign.state.is_at_rest:
                    break
                if stop.wait(POLL_S):
                    raise Stopped
            if campaign.state is not CampaignState.COMPLETED:
                raise TrialFailed(str(self), f"the campaign is {campaign.state}: {campaign.reason}; see {self.folder}")
            chooses = decides_by_evaluation(self.simulation.spec) and campaign.best_adapter is not None
            adapter = run.write_results("best" if chooses else "final")
        return Training(campaign.rounds, campaign.rounds_closed, adapter.number)

    def _finite(self, scores: Scores, where: str) -> Scores:
        """The scores. Raises TrialFailed if one is not a finite number: no comparison with it means anything."""
        for metric, value in scores.items():
            if not math.isfinite(value):
                raise TrialFailed(str(self), f"its {metric} on the {where} is {value}; see {self.folder}")
        return scores

    def _adapter(self) -> LoraFile | None:
        """The trained adapter. None for the base model alone."""
        if self.simulation is None:
            return None
        return LoraFile(weights=self.folder / ADAPTER_FOLDER / WEIGHTS_FILE, lora=self.simulation.spec.lora)
