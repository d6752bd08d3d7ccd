"""The contract: what a task may ask for, by the specification that the owner accepted.

An assignment names the campaign, its digest, the round and the files. The jobs of the training child are derived here
from the record; nothing else that a coordinator says enters them. What contradicts the record is refused by the name of
its field.
"""

from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

from pydantic import ValidationError

from agent.errors import TaskFailed
from agent.orders.jobs import EvaluateJob, InitJob, JobBase, PrepareJob, TrainJob
from agent.record.bookings import Work, WorkKind
from agent.record.campaigns import KnownCampaign, Prepared
from shared.plugins import PluginUnavailable
from shared.wire.tasks.assignments import BenchmarkAssignment, EvaluateAssignment, InitAssignment, TrainAssignment
from shared.wire.tasks.leases import FailureKind

J = TypeVar("J", bound=JobBase)


def mismatch(field: str, problem: str) -> TaskFailed:
    """The refusal of an assignment of which a field contradicts what was accepted."""
    return TaskFailed(FailureKind.CONTRACT_MISMATCH, f"{field}: {problem}")


def prepare_job(known: KnownCampaign) -> PrepareJob:
    """The job to fetch the base model, and to tokenise and count the rows."""
    spec = known.spec
    return derived(
        PrepareJob,
        **common_facts(known),
        lora=spec.lora,
        data=spec.data,
        algorithm=spec.algorithm.name,
        plain_client=known.terms.plain_client,
        training=spec.training,
    )


def init_job(known: KnownCampaign, task: InitAssignment) -> InitJob:
    """The job to build adapter 0. Raises TaskFailed (contract-mismatch)."""
    prepared = prepared_of(known, task)
    spec = known.spec
    facts = {**common_facts(known), "fingerprint": prepared.fingerprint, "lora": spec.lora, "seed": spec.training.seed}
    return derived(InitJob, **facts)


def train_job(known: KnownCampaign, task: TrainAssignment) -> TrainJob:
    """The job to train in a round. Raises TaskFailed (contract-mismatch)."""
    prepared, spec = prepared_of(known, task), known.spec
    _check_round(known, task)
    if task.round == 1 and task.broadcast is not None:
        raise mismatch("broadcast", "round 1 has none, because it starts from the algorithm's initial state")
    return derived(
        TrainJob,
        **common_facts(known),
        fingerprint=prepared.fingerprint,
        lora=spec.lora,
        rank=prepared.rank,
        data=spec.data,
        algorithm=spec.algorithm.name,
        algorithm_params=spec.algorithm.params,
        plain_client=known.terms.plain_client,
        round=task.round,
        client_number=task.client_number,
        training=spec.training,
        steps=spec.training.steps_for(prepared.n_train),
        learning_rate=spec.training.learning_rate_in(task.round, spec.rounds),
        adapter=task.adapter,
        reference=task.reference,
        broadcast=task.broadcast,
        wire=spec.wire,
        committed_update=task.committed_update,
        # one more, because the newest update may never count; never more than there are rounds
        state_versions=min(spec.retention.server_state, spec.rounds) + 1,
    )


def evaluate_job(known: KnownCampaign, task: EvaluateAssignment) -> EvaluateJob:
    """The job to evaluate an adapter. Raises TaskFailed (contract-mismatch)."""
    prepared, spec = prepared_of(known, task), known.spec
    _check_round(known, task)
    if spec.evaluation.every == 0:
        raise mismatch("evaluation.every", "it is 0 in the accepted campaign, so no adapter is evaluated")
    return derived(
        EvaluateJob,
        **common_facts(known),
        fingerprint=prepared.fingerprint,
        lora=spec.lora,
        data=spec.data,
        training=spec.training,
        round=task.round,
        adapter=task.adapter,
        reference=task.reference,
    )


def training(task: TrainAssignment, job: TrainJob) -> Work:
    """The piece of work that a train job is."""
    return Work(
        **_asked(task),
        kind=WorkKind.TRAIN,
        broadcast=task.broadcast.sha256 if task.broadcast is not None else "",
        client_number=task.client_number,
        steps=job.steps,
        n_rows=job.steps * job.training.batch_size,
    )


def evaluation(task: EvaluateAssignment) -> Work:
    """The piece of work that an evaluate job is."""
    return Work(**_asked(task), kind=WorkKind.EVALUATE)


def _asked(task: TrainAssignment | EvaluateAssignment) -> dict[str, Any]:
    return {
        "campaign_id": task.campaign_id,
        "round": task.round,
        "history": task.history,
        "spec_sha256": task.spec_sha256,
        "adapter": task.adapter.sha256,
        "reference": task.reference.sha256 if task.reference is not None else "",
    }


def check_same(begun: Work, work: Work) -> None:
    """Raise TaskFailed (contract-mismatch) if a piece of work was begun with something else than is asked now.

    A second answer to nearly the same question is what tells rows.
    """
    if begun.client_number != work.client_number:
        raise mismatch("client_number", f"{work.client_number}, and it was {begun.client_number} before")
    what = f"round {work.round}" if work.kind is WorkKind.TRAIN else f"the evaluation of adapter {work.round}"
    for field in ("spec_sha256", "adapter", "reference", "broadcast"):
        before, now = getattr(begun, field), getattr(work, field)
        if before != now:
            name = field if field == "spec_sha256" else f"{field}.sha256"
            raise mismatch(name, f"{what} was begun with {_short(before)}, and not with {_short(now)}")


def _short(sha256: str) -> str:
    return f"{sha256[:12]}…" if sha256 else "none"


def check_schedule(known: KnownCampaign, task: EvaluateAssignment, evaluated: AbstractSet[int]) -> None:
    """Raise TaskFailed (contract-mismatch) if the accepted campaign does not have an adapter evaluated.

    One more may be: a campaign that is ended early has its last adapter evaluated.

    evaluated: numbers of the adapters that this agent began to evaluate in this history.
    """
    spec = known.spec
    others = [number for number in evaluated - {task.round} if not spec.evaluates(number)]
    if not spec.evaluates(task.round) and others:
        every = spec.evaluation.every
        message = f"adapter {task.round} is not to be evaluated, as evaluation.every = {every} in the accepted campaign"
        raise mismatch("round", f"{message}, and adapter {others[0]} already was at an early end")


def prepared_of(
    known: KnownCampaign, task: InitAssignment | TrainAssignment | EvaluateAssignment | BenchmarkAssignment
) -> Prepared:
    """What the preparation found. Raises TaskFailed if there was none, or the task names another base model."""
    if known.prepared is None:
        raise mismatch("campaign_id", "this agent has not prepared for the campaign; resume it, so that it is asked to")
    if differing := known.prepared.fingerprint.differences(task.fingerprint):
        raise mismatch(f"fingerprint.{differing[0]}", "it is not the one that this agent found when it prepared")
    return known.prepared


def _check_round(known: KnownCampaign, task: TrainAssignment | EvaluateAssignment) -> None:
    """Raise TaskFailed if the campaign has no such round, or if a reference model is named or missing wrongly."""
    check_number(known, task.round)
    try:
        needed = known.spec.kind_section().reference_is_adapter_zero
    except PluginUnavailable:
        return  # whoever loads the kind says what is missing
    if (task.reference is not None) != needed:
        raise mismatch("reference", "the specification has none" if task.reference else "the specification has one")


def check_number(known: KnownCampaign, number: int) -> None:
    """Raise TaskFailed (contract-mismatch) if the campaign has no round or adapter of this number."""
    if number > known.spec.rounds:
        raise mismatch("round", f"{number} is beyond rounds = {known.spec.rounds} of the accepted campaign")


def derived(job: type[J], **facts: Any) -> J:
    """A job of these facts. Raises TaskFailed (contract-mismatch) if the specification gives no job."""
    try:
        return job(**facts)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "spec"
        raise mismatch(field, f"the accepted campaign gives no job ({first['msg']})") from error


def common_facts(known: KnownCampaign) -> dict[str, Any]:
    """The fields that all jobs have."""
    return {
        "campaign_id": known.id,
        "campaign_name": known.name,
        "created_on": known.terms.created_on,
        "training_kind": known.spec.kind,
        "kind_params": known.spec.kind_params,
        "base": known.base,
        "start_sha256": known.spec.start_sha256,
    }
