"""Tells where an evaluation is, and what the base model's child does while nobody can reply."""

from dataclasses import replace

from agent.orders.protocol import WAITS_FOR_BASE, ChildProgress
from fedloom.evaluation.running.plan import OnProgress, Progress


class Telling:
    """Passes progress on. on_progress: receives it."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._last: Progress | None = None

    def tell(self, progress: Progress) -> None:
        """Pass progress on."""
        self._last = replace(progress, leaves="")  # which is told once
        self._on_progress(progress)

    def tell_child(self, doing: ChildProgress) -> None:
        """Pass on where the evaluation was, with the download or load that it waits for."""
        waits_for = doing if doing.phase in WAITS_FOR_BASE else None
        if self._last is not None and self._last.waits_for != waits_for:
            self.tell(replace(self._last, waits_for=waits_for))
