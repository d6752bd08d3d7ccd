"""What runs public benchmarks. An agent knows their names alone: whoever starts it hands in what runs them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.errors import AgentError
from agent.orders.on_base.child import BaseChild
from agent.orders.on_base.model import LoraFile
from agent.orders.protocol import ChildProgress
from shared.wire.benchmarks import BenchmarkScore, OfferedBenchmark


class BenchmarksStopped(AgentError):
    """The task was cancelled: nothing is asked any more."""


@dataclass(frozen=True)
class Asked:
    """Benchmarks of a campaign.

    Args:
        names: in order.
        data: the folder of their data on this machine.
        limit: most items of each; None for all.
        seed: of the draw of items.
    """

    names: Sequence[str]
    data: Path
    limit: int | None
    seed: int


@dataclass(frozen=True)
class Available:
    """What can run here.

    Args:
        offered: what can, with its items.
        reasons: why the others cannot, by name. The texts are for the owner: they name folders of this machine.
    """

    offered: Sequence[OfferedBenchmark]
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listening:
    """Receives what happens while benchmarks run, in their thread.

    Args:
        on_items: the number of items that are behind, and how many there are.
        on_child: what the training child does.
        on_program: called after each program that a model wrote has run. What it raises ends the run.
    """

    on_items: Callable[[int, int], None]
    on_child: Callable[[ChildProgress], None]
    on_program: Callable[[], None]


class Benchmarks(Protocol):
    """Runs benchmarks. Both methods block, and are called in a thread."""

    def available(self, asked: Asked) -> Available:
        """What can run here, by its data and by what it needs, such as a sandbox. Raises nothing for one of them."""
        ...

    def run(
        self,
        asked: Asked,
        offered: Mapping[str, OfferedBenchmark],
        child: BaseChild,
        adapter: LoraFile,
        folder: Path,
        listening: Listening,
    ) -> Sequence[BenchmarkScore]:
        """Run benchmarks on an adapter. Returns a score for each, in their order, with or without a number.

        Raises TaskFailed (benchmark) if none can run for one reason of this machine, what the child raises, and
        OSError.

        Args:
            asked: what is run.
            offered: by name, with the items as they were offered. Others are not asked.
            child: holds the base model.
            adapter: the adapter on it.
            folder: of the replies. The same call in the same folder goes on where it was stopped.
            listening: receives progress.
        """
        ...


MakeBenchmarks = Callable[[], Benchmarks]
"""Imports and makes what runs benchmarks, once it is needed, and returns the same each time. Raises ImportError."""
