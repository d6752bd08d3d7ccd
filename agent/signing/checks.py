"""Whether an assignment is what the coordinator signed."""

from collections.abc import Iterable

from agent.errors import TaskFailed
from agent.signing.standing import Standing
from shared.wire.adapters import OwnAdapter
from shared.wire.base import BlobRef
from shared.wire.tasks.assignments import Assignment, BenchmarkAssignment, EvaluateAssignment, TrainAssignment
from shared.wire.tasks.leases import FailureKind


def not_signed(problem: str, work: str = "this campaign") -> TaskFailed:
    """The refusal of what is not signed, or contradicts what was.

    Args:
        problem: in words.
        work: what is left undone.
    """
    what_to_do = "Compare `fedloom agent fingerprint` with other owners, and ask the operator"
    return TaskFailed(FailureKind.NOT_SIGNED, f"{problem}; nothing is done for {work}. {what_to_do}")


def check_signed(task: Assignment, standing: Standing, agent: str) -> None:
    """Raise TaskFailed (not-signed) unless all that an assignment names was signed.

    Args:
        task: the assignment.
        standing: what was signed of its campaign.
        agent: name of this agent.
    """
    if standing.spec_sha256 is None:
        raise not_signed("the coordinator signed no specification of this campaign")
    if standing.spec_sha256 != task.spec_sha256:
        signed = f"{standing.spec_sha256[:12]}…"
        raise not_signed(f"spec_sha256: the coordinator asks for {task.spec_sha256[:12]}…, and signed {signed}")
    if isinstance(task, TrainAssignment | EvaluateAssignment | BenchmarkAssignment):
        _check_history(task, standing)
    if isinstance(task, TrainAssignment | EvaluateAssignment):
        _check_reference(task.reference, standing)
    if isinstance(task, EvaluateAssignment | BenchmarkAssignment):
        _check_adapter("adapter", task.adapter, task.round, standing)
    if isinstance(task, TrainAssignment):
        _check_adapter("adapter", task.adapter, task.round - 1, standing)
        _check_broadcast(task, standing)
        _check_roster(task, standing, agent)


def check_listed(adapters: Iterable[OwnAdapter], standing: Standing) -> None:
    """Raise TaskFailed (not-signed) unless each adapter of a listing has the digest that was signed."""
    for adapter in adapters:
        _check_adapter("adapter", adapter.blob, adapter.number, standing)


def _check_history(task: TrainAssignment | EvaluateAssignment | BenchmarkAssignment, standing: Standing) -> None:
    if task.history != standing.history:
        raise not_signed(f"history: {task.history} is asked for, and {standing.history} is the one that was signed")


def _check_adapter(field: str, ref: BlobRef, number: int, standing: Standing) -> None:
    signed = standing.adapters.get(number)
    if signed is None:
        raise not_signed(f"{field}: no adapter {number} of this history was signed")
    if signed.sha256 != ref.sha256:
        asked = f"adapter {number} with {_short(ref.sha256)} is asked for"
        raise not_signed(f"{field}.sha256: {asked}, and {_short(signed.sha256)} was signed")


def _check_reference(reference: BlobRef | None, standing: Standing) -> None:
    if reference is not None:
        _check_adapter("reference", reference, 0, standing)


def _check_broadcast(task: TrainAssignment, standing: Standing) -> None:
    signed = standing.adapters[task.round - 1].broadcast
    asked = task.broadcast.sha256 if task.broadcast is not None else None
    if asked != signed:
        raise not_signed(f"broadcast.sha256: {_short(asked)} is asked for, and {_short(signed)} was signed")


def _check_roster(task: TrainAssignment, standing: Standing, agent: str) -> None:
    roster = standing.rosters.get(task.round)
    if roster is None:
        raise not_signed(f"round: no roster of round {task.round} was signed")
    if agent not in roster.agents:
        raise not_signed(f"round: this agent is not in the signed roster of round {task.round}")
    if task.n_in_round > len(roster.agents):
        named = f"{len(roster.agents)} are in the signed roster of round {task.round}"
        raise not_signed(f"n_in_round: {task.n_in_round} clients are asked for, and {named}")


def _short(sha256: str | None) -> str:
    return f"{sha256[:12]}…" if sha256 is not None else "none"
