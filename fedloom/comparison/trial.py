"""One simulated campaign of a method in its own folder, and its scores. A second run continues the first."""

import json
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.orders.local import LoraFile
from fedloom.adapters.folder import WEIGHTS_FILE
from fedloom.comparison.methods import Hyperparameters, Method
from fedloom.comparison.rows import Rows
from fedloom.comparison.scoring import Scorer, Scores
from fedloom.errors import TrialFailed
from fedloom.simulation.run import ADAPTER_FOLDER, running
from fedloom.simulation.simulation import Simulation
from shared.durable import atomic_text
from shared.states import CampaignState

POLL_S = 1.0
SCORES_FILE = "scores.json"


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
        stop: threading.Event,
        on_progress: Callable[[float], None],
    ) -> dict[str, Scores]:
        """Train unless an earlier run did, score on every split that has no score yet, and return the scores.

        Args:
            rows: The rows of each split, by its name.
            stop: Set to end the training early.
            on_progress: Called with the fraction of the training that is done.

        Raises Stopped, TrialFailed, and what a simulation and a scorer raise.
        """
        scores = self._stored_scores()
        if scores is None:
            self._train(stop, on_progress)
            scores = {}
            self._store(scores)
        if missing := [split for split in rows if split not in scores]:
            on_progress(1.0)
            adapter = self._adapter()
            for split in missing:
                if stop.is_set():
                    raise Stopped
                scores[split] = self._finite(scorer.scores(rows[split], adapter), split)
            self._store(scores)
        return {split: scores[split] for split in rows}

    def _train(self, stop: threading.Event, on_progress: Callable[[float], None]) -> None:
        if self.simulation is None:
            return
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
            run.write_results()

    def _finite(self, scores: Scores, split: str) -> Scores:
        """The scores. Raises TrialFailed if one is not a finite number: no comparison with it means anything."""
        for metric, value in scores.items():
            if not math.isfinite(value):
                raise TrialFailed(str(self), f"its {metric} on the {split} rows is {value}; see {self.folder}")
        return scores

    def _adapter(self) -> LoraFile | None:
        """The trained adapter. None for the base model alone."""
        if self.simulation is None:
            return None
        return LoraFile(weights=self.folder / ADAPTER_FOLDER / WEIGHTS_FILE, lora=self.simulation.spec.lora)

    def _stored_scores(self) -> dict[str, Scores] | None:
        """Scores of an earlier run of this same simulation. None if it has not been trained."""
        try:
            stored = json.loads((self.folder / SCORES_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return dict(stored["scores"]) if stored.get("of") == self._facts() else None

    def _store(self, scores: Mapping[str, Scores]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_text(self.folder / SCORES_FILE, json.dumps({"of": self._facts(), "scores": scores}, indent=2) + "\n")

    def _facts(self) -> dict[str, Any] | None:
        # through JSON, so that they compare equal to the facts read from the file
        return json.loads(json.dumps(self.simulation.facts())) if self.simulation is not None else None
