"""One campaign of an entrant, simulated in a folder of its own, and what it scored; both go on where they stopped."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.child import LoraFile
from fedloom.adapters.folder import WEIGHTS_FILE
from fedloom.comparison.entrants import Hyperparameters, Method
from fedloom.comparison.scoring import Rows, Scorer, Scores
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
    """simulation: None where there is nothing to train, and the base model is what comes out."""

    entrant: Method
    rates: Hyperparameters
    seed: int
    folder: Path
    simulation: Simulation | None

    def __str__(self) -> str:
        return f"{self.entrant.name}, {self.rates}, seed {self.seed}"

    def run(
        self,
        scorer: Scorer,
        rows: Mapping[str, Rows],
        stop: threading.Event,
        on_progress: Callable[[float], None],
    ) -> dict[str, Scores]:
        """Train, unless that is done, and score on *rows*, by the name of their split, what was not scored yet.

        on_progress: called with the share of the training that is done. Raises Stopped, TrialFailed, and what a
        simulation and a scorer raise.
        """
        known = self._known()
        if known is None:
            self._train(stop, on_progress)
            known = {}
            self._remember(known)
        if missing := [split for split in rows if split not in known]:
            on_progress(1.0)
            adapter = self._adapter()
            for split in missing:
                known[split] = scorer.scores(rows[split], adapter)
            self._remember(known)
        return {split: known[split] for split in rows}

    def _train(self, stop: threading.Event, on_progress: Callable[[float], None]) -> None:
        if self.simulation is None:
            return
        with running(self.simulation, self.folder) as run:
            while True:
                campaign = run.campaign()
                on_progress(run.share_of_done(campaign))
                if campaign.state.is_at_rest:
                    break
                if stop.wait(POLL_S):
                    raise Stopped
            if campaign.state is not CampaignState.COMPLETED:
                raise TrialFailed(str(self), f"the campaign is {campaign.state}: {campaign.reason}; see {self.folder}")
            run.write_results()

    def _adapter(self) -> LoraFile | None:
        """What came out of the training; None for the base model as it is."""
        if self.simulation is None:
            return None
        return LoraFile(weights=self.folder / ADAPTER_FOLDER / WEIGHTS_FILE, lora=self.simulation.spec.lora)

    def _known(self) -> dict[str, Scores] | None:
        """What was scored before, of this very simulation; None where it was not trained yet."""
        try:
            kept = json.loads((self.folder / SCORES_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return dict(kept["scores"]) if kept.get("of") == self._facts() else None

    def _remember(self, scores: Mapping[str, Scores]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_text(self.folder / SCORES_FILE, json.dumps({"of": self._facts(), "scores": scores}, indent=2) + "\n")

    def _facts(self) -> dict[str, Any] | None:
        # through JSON, as they are read again
        return json.loads(json.dumps(self.simulation.facts())) if self.simulation is not None else None
