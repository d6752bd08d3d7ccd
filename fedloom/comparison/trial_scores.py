"""The scores of one trial, and their file, which a second run reads."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from fedloom.comparison.scoring import Scores
from fedloom.comparison.tasks.scores import TaskScore
from shared.durable import atomic_text

SCORES_FILE = "scores.json"


@dataclass
class TrialScores:
    """Scores of one trained model.

    Args:
        rows: scores on the rows of each split, by its name.
        tasks: numbers of evaluation tasks; None if they were not asked.
        tasks_facts: what identifies that evaluation.
    """

    rows: dict[str, Scores] = field(default_factory=dict)
    tasks: list[TaskScore] | None = None
    tasks_facts: Any = None

    @classmethod
    def read(cls, folder: Path, facts: Any) -> Self | None:
        """What ``write`` wrote of the same simulation. None if it has not been trained.

        facts: what identifies the simulation, as JSON.
        """
        try:
            stored = json.loads((folder / SCORES_FILE).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if stored.get("of") != facts:
            return None
        found = stored.get("evaluation") or {"of": None, "scores": None}
        tasks = [TaskScore(**score) for score in found["scores"]] if found["scores"] is not None else None
        return cls(dict(stored["scores"]), tasks, found["of"])

    def write(self, folder: Path, facts: Any) -> None:
        """Write the file, atomically. Raises OSError."""
        document: dict[str, Any] = {"of": facts, "scores": self.rows}
        if self.tasks is not None:
            document["evaluation"] = {"of": self.tasks_facts, "scores": [asdict(score) for score in self.tasks]}
        folder.mkdir(parents=True, exist_ok=True)
        atomic_text(folder / SCORES_FILE, json.dumps(document, indent=2) + "\n")


def as_stored(facts: Mapping[str, Any] | None) -> Any:
    """Facts as they are read from a file, to be compared with those."""
    return json.loads(json.dumps(facts))
