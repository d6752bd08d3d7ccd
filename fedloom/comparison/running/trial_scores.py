"""The scores of one trial, and their file, which a second run reads."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from fedloom.comparison.scoring import Scores
from fedloom.comparison.tasks.scores import TaskScore, values_of
from shared.system.durable import atomic_text

SCORES_FILE = "scores.json"


@dataclass(frozen=True)
class Training:
    """How a trial was trained.

    Args:
        rounds: rounds of its campaign.
        rounds_closed: rounds that were trained; fewer than ``rounds`` if it stopped early.
        adapter: number of the adapter that is scored.
    """

    rounds: int
    rounds_closed: int
    adapter: int


@dataclass(frozen=True)
class TaskNumbers:
    """Numbers of evaluation tasks. facts: what identifies that evaluation, as JSON."""

    facts: Any
    scores: list[TaskScore]


@dataclass
class TrialScores:
    """Scores of one trained model.

    Args:
        rows: scores on the rows of each split, by its name.
        tasks: numbers of evaluation tasks, by what they are for.
        training: how the model was trained; None for the base model.
    """

    rows: dict[str, Scores] = field(default_factory=dict)
    tasks: dict[str, TaskNumbers] = field(default_factory=dict)
    training: Training | None = None

    def values(self, part: str) -> Scores:
        """All values on a split, or of the tasks that are for a part."""
        tasks = values_of(self.tasks[part].scores) if part in self.tasks else {}
        return self.rows.get(part, {}) | tasks

    @staticmethod
    def read(folder: Path, facts: Any) -> "TrialScores | None":
        """What ``write`` wrote of the same simulation. None if it has not been trained, or the file is damaged.

        facts: what identifies the simulation, as JSON.
        """
        try:
            stored = json.loads((folder / SCORES_FILE).read_bytes())
            found = _STORED.validate_python(stored)
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        return found if stored.get("of") == facts else None

    def write(self, folder: Path, facts: Any) -> None:
        """Write the file, atomically. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        atomic_text(folder / SCORES_FILE, json.dumps({"of": facts, **asdict(self)}, indent=2) + "\n")


def as_stored(facts: Mapping[str, Any] | None) -> Any:
    """Facts as they are read from a file, to be compared with those."""
    return json.loads(json.dumps(facts))


_STORED = TypeAdapter(TrialScores)
