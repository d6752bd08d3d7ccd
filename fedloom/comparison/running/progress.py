"""How far a comparison is."""

from dataclasses import dataclass, field


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
