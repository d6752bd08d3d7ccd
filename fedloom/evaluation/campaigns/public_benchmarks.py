"""Runs benchmarks for agents: the tasks of ``fedloom evaluate``, on one adapter."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.benchmarks.interface import Asked, Available, Listening
from agent.errors import TaskFailed
from agent.orders.on_base.child import BaseChild
from agent.orders.on_base.model import LoraFile
from fedloom.evaluation.asking.child_model import ChildModel
from fedloom.evaluation.asking.replies import REPLIES_FOLDER, ReplyStore, StoredModel
from fedloom.evaluation.asking.warm_base import WarmBase
from fedloom.evaluation.campaigns.files import Stamp, stamp_of
from fedloom.evaluation.campaigns.ready import CannotRun, ReadyBenchmark, made_ready
from fedloom.evaluation.campaigns.scoring import score_of, without_number
from shared.wire.benchmarks import BenchmarkScore, OfferedBenchmark
from shared.wire.tasks.leases import FailureKind

_CHANGED = "its data at this agent has changed since it was offered"

_Key = tuple[str, Path, int | None, int]


class PublicBenchmarks:
    """The benchmarks on public data.

    What can run is seen anew only when something in the folder of evaluation data has changed.
    """

    def __init__(self) -> None:
        self._seen: dict[_Key, tuple[Stamp, OfferedBenchmark | str]] = {}
        self._lock = threading.Lock()

    def available(self, asked: Asked) -> Available:
        """What can run here, and why the others cannot."""
        with self._lock:  # agents of one process read the same files once
            stamp = stamp_of(asked.data)
            seen = {name: self._look(asked, name, stamp) for name in asked.names}
        offered = [each for each in seen.values() if isinstance(each, OfferedBenchmark)]
        return Available(offered, {name: each for name, each in seen.items() if isinstance(each, str)})

    def _look(self, asked: Asked, name: str, stamp: Stamp) -> OfferedBenchmark | str:
        """The offer of a benchmark, or why it cannot run."""
        key = (name, asked.data, asked.limit, asked.seed)
        known = self._seen.get(key)
        if known is not None and known[0] == stamp:
            return known[1]
        found: OfferedBenchmark | str
        try:
            found = made_ready(asked, name).offer
        except CannotRun as reason:
            found = str(reason)
        self._seen[key] = (stamp, found)
        return found

    def run(
        self,
        asked: Asked,
        offered: Mapping[str, OfferedBenchmark],
        child: BaseChild,
        adapter: LoraFile,
        folder: Path,
        listening: Listening,
    ) -> Sequence[BenchmarkScore]:
        """Run benchmarks on an adapter, as the interface of agents says."""
        ready, reasons = _ready(asked, offered)
        if not ready and len(different := set(reasons.values())) == 1 and different != {_CHANGED}:
            [reason] = different
            opening = "no benchmark can run at this agent: "
            raise TaskFailed(FailureKind.BENCHMARK, opening + _public(reason, asked.data), opening + reason)
        scores = {name: without_number(offered[name], _public(why, asked.data)) for name, why in reasons.items()}
        if ready:
            base = WarmBase(child, listening.on_child)
            model = ChildModel(base, "adapter", adapter)
            stored = StoredModel(model, ReplyStore(folder / REPLIES_FOLDER, model.facts))
            behind, total = 0, sum(len(each.task.items) for each in ready)
            listening.on_items(behind, total)
            for each in ready:
                scores[each.offer.name] = score_of(each, stored, behind, total, listening)
                behind += len(each.task.items)
        return [scores[name] for name in asked.names]


def _public(reason: str, data: Path) -> str:
    """A reason as it may leave: tasks name the folder of evaluation data."""
    return reason.replace(str(data), "the agent's folder of evaluation data")


def _ready(asked: Asked, offered: Mapping[str, OfferedBenchmark]) -> tuple[list[ReadyBenchmark], dict[str, str]]:
    """What can run with the items that were offered, and why the others cannot."""
    ready, reasons = [], {}
    for name in asked.names:
        try:
            found = made_ready(asked, name)
        except CannotRun as reason:
            reasons[name] = str(reason)
            continue
        if found.offer.items_sha256 == offered[name].items_sha256:
            ready.append(found)
        else:
            reasons[name] = _CHANGED
    return ready, reasons
