"""Admission of public benchmarks: what of them a task may ask for, and what was measured before.

They read no row of the owner, so no pool and no quota of campaigns counts them. Each gives its numbers once for an
adapter of a history, and is begun ``MAX_TRIES`` times at most; the adapters are those of the accepted schedule, and
histories are bounded as for all work.
"""

from collections.abc import Sequence
from typing import Any

from agent.configuration.settings import AgentSettings
from agent.contract import check_number, common_facts, derived, mismatch, prepared_of
from agent.orders.jobs import BenchmarkJob
from agent.policy.refusals import refuse
from agent.policy.work_rules import benchmark_refusals, history_refusals
from agent.record.benchmarks import BenchmarkedAdapter
from agent.record.campaigns import KnownCampaign
from agent.record.record import OwnerRecord
from shared.wire.benchmarks import BenchmarkScore, OfferedBenchmark
from shared.wire.tasks.assignments import BenchmarkAssignment
from shared.wire.tasks.results import BenchmarkResult

MAX_TRIES = 10
"""How often a benchmark that gives no number is begun on an adapter. A restart of the agent is a further beginning, and
replies that it stored are not asked again."""


class BenchmarkAdmission:
    """Admits benchmark tasks. record: the owner's."""

    def __init__(self, record: OwnerRecord) -> None:
        self._record = record

    def admit(
        self, settings: AgentSettings, known: KnownCampaign, task: BenchmarkAssignment
    ) -> tuple[BenchmarkJob, BenchmarkResult | None]:
        """What is to be run, and the result instead if all of it ran before. Raises TaskFailed and RecordUnusable."""
        job = self._job(known, task)
        refuse(benchmark_refusals(settings.policy, task.benchmarks))
        adapter, record = adapter_of(task), self._record.benchmarks
        self._check_history(settings, known, task)
        before = record.adapter_of(adapter)
        if before not in (None, adapter.sha256):
            what = f"benchmarks of adapter {task.round} were begun with {before[:12]}…"
            raise mismatch("adapter.sha256", f"{what}, and not with {adapter.sha256[:12]}…")
        _check_schedule(known, task, record.numbers(known.id, task.history))
        numbers = {name for name, score in record.scores(adapter).items() if score.values}
        tries = record.tries(adapter)
        left = [each for each in job.benchmarks if each.name not in numbers and tries.get(each.name, 0) < MAX_TRIES]
        if not left:
            return job, self._result(task)
        record.begin(adapter, [each.name for each in left])
        return job.model_copy(update={"benchmarks": left}), None

    def record_scores(
        self, settings: AgentSettings, task: BenchmarkAssignment, scores: Sequence[BenchmarkScore]
    ) -> BenchmarkResult:
        """Store what was measured. Returns the result of the whole task, which is what was stored first.

        Raises TaskFailed if the settings no longer let the benchmarks run.
        """
        self._record.benchmarks.keep(adapter_of(task), scores)
        refuse(benchmark_refusals(settings.policy, task.benchmarks))
        return self._result(task)

    def _result(self, task: BenchmarkAssignment) -> BenchmarkResult:
        record = self._record.benchmarks
        scores, offered = record.scores(adapter_of(task)), record.ever_offered(task.campaign_id)
        return BenchmarkResult(scores=[scores.get(name) or _given_up(offered[name]) for name in task.benchmarks])

    def _job(self, known: KnownCampaign, task: BenchmarkAssignment) -> BenchmarkJob:
        prepared, spec = prepared_of(known, task), known.spec
        check_number(known, task.round)
        if len(set(task.benchmarks)) < len(task.benchmarks):
            raise mismatch("benchmarks", "one is named twice")
        if others := [name for name in task.benchmarks if name not in spec.evaluation.benchmarks]:
            raise mismatch("benchmarks", f"the accepted campaign does not name {', '.join(others)}")
        offered = self._record.benchmarks.ever_offered(known.id)
        if others := [name for name in task.benchmarks if name not in offered]:
            raise mismatch("benchmarks", f"this agent did not offer to run {', '.join(others)}")
        facts: dict[str, Any] = {**common_facts(known), "fingerprint": prepared.fingerprint, "lora": spec.lora}
        facts |= {"round": task.round, "adapter": task.adapter}
        facts |= {"limit": spec.evaluation.limit, "seed": spec.evaluation.seed}
        return derived(BenchmarkJob, **facts, benchmarks=[offered[name] for name in task.benchmarks])

    def _check_history(self, settings: AgentSettings, known: KnownCampaign, task: BenchmarkAssignment) -> None:
        histories = self._record.benchmarks.histories(known.id) | self._record.bookings.histories(known.id)
        latest = max(histories, default=0)
        if task.history < latest:
            raise mismatch("history", f"it is {task.history}, and was {latest} before")
        refuse(history_refusals(settings.policy, histories, task.history))


def _given_up(offer: OfferedBenchmark) -> BenchmarkScore:
    reason = f"it was begun {MAX_TRIES} times at this agent and never ended, so it is not begun again"
    return BenchmarkScore(name=offer.name, items_sha256=offer.items_sha256, n=0, n_asked=0, not_run=reason)


def adapter_of(task: BenchmarkAssignment) -> BenchmarkedAdapter:
    """The adapter that a task is about."""
    return BenchmarkedAdapter(task.campaign_id, task.history, task.round, task.adapter.sha256)


def _check_schedule(known: KnownCampaign, task: BenchmarkAssignment, begun: set[int]) -> None:
    """Raise TaskFailed (contract-mismatch) if the accepted campaign has no benchmarks of an adapter.

    One more may have some: the last one of a campaign that is ended early.

    begun: numbers of the adapters of this history on which benchmarks were begun.
    """
    spec = known.spec
    others = [number for number in begun - {task.round} if not spec.benchmarks(number)]
    if not spec.benchmarks(task.round) and others:
        message = f"no benchmarks are to be run on adapter {task.round} by the accepted campaign"
        raise mismatch("round", f"{message}, and some were on adapter {others[0]} at an early end")
