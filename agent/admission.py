"""Admission: from an assignment to the job that the training child does, or to the answer that it got before.

All that the owner's protection rests on comes together here: acceptance, contract, policy, and the booking of the work.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from agent import contract
from agent.acceptance import Acceptance
from agent.benchmarks.admission import BenchmarkAdmission
from agent.configuration.settings import AgentSettings
from agent.data.digest_cache import DigestCache
from agent.data.identity import identity_of
from agent.errors import TaskFailed
from agent.installed import check_installed, load_kind
from agent.ledger.ledger import Ledger
from agent.orders.job import Done
from agent.orders.jobs import AnyJob, TrainJob
from agent.policy.amounts import amount_refusals, rows_refusals
from agent.policy.data_rules import data_refusals
from agent.policy.disclosure import Disclosure, evaluation_refusals
from agent.policy.refusals import refuse
from agent.policy.verdict import pools_of
from agent.policy.work_rules import (
    company_refusals,
    download_refusals,
    history_refusals,
    quota_refusals,
    rank_refusals,
    training_refusals,
)
from agent.record.bookings import Work
from agent.record.campaigns import KnownCampaign, Prepared
from agent.record.record import OwnerRecord
from shared.wire.benchmarks import BenchmarkScore
from shared.wire.tasks.assignments import (
    Assignment,
    BenchmarkAssignment,
    EvaluateAssignment,
    InitAssignment,
    PrepareAssignment,
    TrainAssignment,
)
from shared.wire.tasks.leases import FailureKind
from shared.wire.tasks.results import EvaluateResult, PrepareResult, Result, TrainResult

_RESULT: TypeAdapter[Result] = TypeAdapter(Result)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Admitted:
    """A task that may be done.

    Args:
        job: what is done.
        work: how it is booked; None for what uses no rows beyond counting them.
        answer: what left of it before, which is sent again; that of a training is in its folder.
    """

    job: AnyJob
    work: Work | None = None
    answer: Result | None = None


class Admission:
    """Admits the tasks of one coordinator.

    Args:
        record: the owner's.
        acceptance: what is accepted.
        digests: of the owner's data files.
        ledger: what was sent.
    """

    def __init__(self, record: OwnerRecord, acceptance: Acceptance, digests: DigestCache, ledger: Ledger) -> None:
        self._record = record
        self._acceptance = acceptance
        self._digests = digests
        self._ledger = ledger
        self._benchmarks = BenchmarkAdmission(record)
        self._one_at_a_time = threading.Lock()

    def admit(self, settings: AgentSettings, task: Assignment) -> Admitted:
        """Admit a task, and book its work. Raises TaskFailed and RecordUnusable."""
        with self._one_at_a_time:  # an admission may outlive its task; two would both find room for one
            known = self._acceptance.require_accepted(settings, task)
            if source := settings.source(known.spec.data.name):
                refuse(data_refusals(source, known.spec, known.id, known.spec_sha256))
            refuse(download_refusals(settings.policy, task))
            match task:
                case PrepareAssignment():
                    # before the rows are counted: each campaign could ask for another count
                    bookings = self._record.bookings
                    pools = pools_of(settings, bookings, known.spec.data.name, self._digests.sha256)
                    refuse(quota_refusals(settings.policy, bookings, known.id, pools))
                    return Admitted(contract.prepare_job(known))
                case InitAssignment():
                    return Admitted(contract.init_job(known, task))
                case EvaluateAssignment():
                    return self._evaluation(settings, known, task)
                case BenchmarkAssignment():
                    benchmarks, scored = self._benchmarks.admit(settings, known, task)
                    return Admitted(benchmarks, answer=scored)
                case TrainAssignment():
                    return self._training(settings, known, task)

    def _training(self, settings: AgentSettings, known: KnownCampaign, task: TrainAssignment) -> Admitted:
        job = contract.train_job(known, task)
        check_installed(job)  # before the booking, which nothing takes back
        refuse(company_refusals(settings.policy, task))
        refuse(rank_refusals(settings.compute, job.rank))
        work = contract.training(task, job)
        if (begun := self._begun(work)) is not None:
            # as it was booked, although rows may have come since
            return Admitted(job.model_copy(update={"steps": begun.steps}), begun)
        bookings, agent_id = self._record.bookings, known.terms.agent_id
        number = bookings.client_number(known.id, agent_id, task.history)
        if number not in (None, task.client_number):
            raise contract.mismatch("client_number", f"{task.client_number}, and it was {number} before")
        self._check_order(settings, known, work)
        known = self._bind_pool(settings, known)
        refuse(training_refusals(settings.policy, bookings, known, work))
        self._book(known, work)
        return Admitted(job, work)

    def _evaluation(self, settings: AgentSettings, known: KnownCampaign, task: EvaluateAssignment) -> Admitted:
        job = contract.evaluate_job(known, task)
        assert known.prepared is not None
        refuse(evaluation_refusals(settings.policy, known.prepared.n_distinct_held_out))
        work = contract.evaluation(task)
        bookings = self._record.bookings
        if self._begun(work) is None:
            contract.check_schedule(known, task, bookings.adapters_evaluated(known.id, task.history))
            self._check_order(settings, known, work)
            known = self._bind_pool(settings, known)
            assert known.pool is not None
            refuse(quota_refusals(settings.policy, bookings, known.id, [known.pool]))
            self._book(known, work)
        answer = bookings.result_of(work)
        if answer is None:
            return Admitted(job, work)
        disclosure = Disclosure(settings.policy, load_kind(job.training_kind).metrics)
        return Admitted(job, work, disclosure.result(_RESULT.validate_json(answer)))

    def _begun(self, work: Work) -> Work | None:
        """The work as it was begun before; None if it was not. Raises TaskFailed if it was with something else."""
        begun = self._record.bookings.find(work)
        if begun is not None:
            contract.check_same(begun, work)
        return begun

    def _check_order(self, settings: AgentSettings, known: KnownCampaign, work: Work) -> None:
        """Raise TaskFailed if an old assignment came again: rounds rise, until another history is declared."""
        bookings = self._record.bookings
        history, number = bookings.furthest(known.id, work.kind)
        if work.history < history:
            raise contract.mismatch("history", f"it is {work.history}, and was {history} before")
        if work.history == history and work.round < number:
            raise contract.mismatch("round", f"{work.round} comes after {number}, and no rollback was declared")
        refuse(history_refusals(settings.policy, bookings.histories(known.id), work.history))
        if work.history > history and number >= 0:
            log.warning("campaign %s was rolled back or restored: rounds are done again", known.name)

    def _book(self, known: KnownCampaign, work: Work) -> None:
        assert known.pool is not None
        self._record.bookings.book(known.pool, known.terms.agent_id, work, self._ledger.head())

    def record_answer(self, settings: AgentSettings, task: Assignment, admitted: Admitted, done: Done) -> Result:
        """Record what the child answered, with all that was measured. Returns what of it leaves.

        What leaves of a piece of work is stored before, so that a further attempt sends the same, or less if the
        settings are stricter by then. Raises TaskFailed if the settings refuse what was counted.
        """
        disclosure = Disclosure(settings.policy, load_kind(admitted.job.training_kind).metrics)
        result, work = done.result, admitted.work
        if isinstance(result, PrepareResult):
            self._record_prepared(settings, task, result, done)
            return disclosure.prepared(result, done.n_distinct_held_out)
        if work is None or not isinstance(result, TrainResult | EvaluateResult):
            return disclosure.result(result)
        leaving: Result | None = None
        refused: TaskFailed | None = None
        rules = rows_refusals if isinstance(result, TrainResult) else evaluation_refusals
        try:  # the file may have changed since the preparation, and the settings
            refuse(rules(settings.policy, done.n_distinct))
            leaving = disclosure.result(result)
        except TaskFailed as error:
            refused = error
        with self._record.as_one():
            self._record.measured.keep(work, result.metrics)  # the owner's, whatever is refused
            if leaving is not None:
                self._record.bookings.keep_result(work, leaving.model_dump_json())
        if refused is not None:
            raise refused
        first = self._record.bookings.result_of(work)
        assert first is not None
        return disclosure.result(_RESULT.validate_json(first))

    def record_scores(
        self, settings: AgentSettings, task: BenchmarkAssignment, scores: Sequence[BenchmarkScore]
    ) -> Result:
        """Record what public benchmarks gave. Returns what of it leaves, which is what was recorded first.

        Raises TaskFailed if the settings no longer let them run.
        """
        return self._benchmarks.record_scores(settings, task, scores)

    def _record_prepared(self, settings: AgentSettings, task: Assignment, result: PrepareResult, done: Done) -> None:
        """Record what a preparation found. Raises TaskFailed if the settings refuse it, or its base model changed."""
        known = self._acceptance.require_accepted(settings, task)
        before = known.prepared.cpu_dtype if known.prepared is not None else None
        prepared = Prepared(
            fingerprint=result.fingerprint,
            rank=result.rank,
            cpu_dtype=result.cpu_dtype or before,  # decided once, although this preparation may be on a GPU
            n_train=result.n_train,
            n_held_out=result.n_held_out,
            n_distinct=done.n_distinct,
            n_distinct_held_out=done.n_distinct_held_out,
            rows=done.rows,
        )
        refuse(amount_refusals(settings.policy, known.spec, prepared))
        has_changed = known.prepared is not None and known.prepared.fingerprint != prepared.fingerprint
        if has_changed and (self._record.bookings.histories(known.id) or self._record.benchmarks.count(known.id)):
            message = "the base model here is not the one that this agent worked with before in this campaign"
            raise contract.mismatch("fingerprint", message)
        self._bind_pool(settings, known)
        self._record.campaigns.set_prepared(known.id, prepared)

    def _bind_pool(self, settings: AgentSettings, known: KnownCampaign) -> KnownCampaign:
        """The campaign, bound to the rows that its data source reads now: its file may have changed since it prepared.

        Raises TaskFailed (data) if there is no such source, or its file cannot be read.
        """
        name = known.spec.data.name
        source = settings.source(name)
        if source is None:
            message = f"this agent has no data named {name}: add a table [data.{name}] to agent.toml"
            raise TaskFailed(FailureKind.DATA, message)
        if source.path is not None and not source.path.exists():
            said = "there is no such file; correct its path in agent.toml"
            raise TaskFailed(FailureKind.DATA, f"data.{name}: {said}", f"{source.label}: {said}")
        try:
            pool = self._record.bookings.pool_of(identity_of(source, self._digests.sha256))
        except OSError as error:
            said = f"the file cannot be read ({error.strerror or type(error).__name__})"
            raise TaskFailed(FailureKind.DATA, f"data.{name}: {said}", f"{source.label}: {said}") from error
        self._record.campaigns.bind(known.id, pool)
        return replace(known, pool=pool)

    def check_standing(self, settings: AgentSettings, task: Assignment) -> None:
        """Raise TaskFailed if the owner paused or left the campaign while the task was done: nothing of it leaves."""
        self._acceptance.require_accepted(settings, task)

    def check_not_gone(self, admitted: Admitted) -> None:
        """Raise TaskFailed if a training was answered and its files are no longer here: it is not done again."""
        if (
            isinstance(admitted.job, TrainJob)
            and admitted.work is not None
            and self._record.bookings.result_of(admitted.work) is not None
        ):
            message = f"round {admitted.job.round} was trained and sent before, and its update is no longer here"
            raise TaskFailed(FailureKind.CONTRACT_MISMATCH, f"round: {message}; a round is trained once")
