"""The owner's policy: the only place that decides what is accepted. A refusal names the line of agent.toml."""

from fnmatch import fnmatchcase

from agent.errors import TaskFailed
from agent.settings import AgentSettings, ComputeSettings
from shared.wire.jobs import EvaluateJob, Job, PrepareJob, TrainJob
from shared.wire.leases import FailureKind


def check(settings: AgentSettings, job: Job) -> None:
    """Raise TaskFailed if the owner's settings do not allow the job."""
    policy = settings.policy
    if not _matches(job.base.model, policy.base_models):
        raise _refused(f"base model {job.base.model} does not match policy.base_models")
    if job.training_kind not in policy.kinds:
        allowed = ", ".join(f'"{kind}"' for kind in [*policy.kinds, job.training_kind])
        raise _refused(f"training kind {job.training_kind} is not in policy.kinds; to allow it: kinds = [{allowed}]")
    if isinstance(job, EvaluateJob) and not policy.report_losses:
        raise _refused("evaluation reports losses, and policy.report_losses is false")
    if isinstance(job, PrepareJob | TrainJob):
        if not _matches(job.algorithm, policy.algorithms):
            raise _refused(f"algorithm {job.algorithm} does not match policy.algorithms")
        steps = job.steps if isinstance(job, TrainJob) else job.training.steps
        if policy.max_steps is not None and steps is not None and steps > policy.max_steps:
            raise _refused(f"{steps} steps a round are more than policy.max_steps = {policy.max_steps}")
    if isinstance(job, PrepareJob) and policy.max_rounds is not None and job.rounds > policy.max_rounds:
        raise _refused(f"{job.rounds} rounds are more than policy.max_rounds = {policy.max_rounds}")
    if isinstance(job, TrainJob) and policy.max_rounds is not None and job.round > policy.max_rounds:
        raise _refused(f"round {job.round} is beyond policy.max_rounds = {policy.max_rounds}")
    if isinstance(job, PrepareJob | TrainJob):
        _check_rank(settings.compute, job)


def _check_rank(compute: ComputeSettings, job: PrepareJob | TrainJob) -> None:
    """Raise TaskFailed if the job trains a larger rank than this machine."""
    if isinstance(job, PrepareJob) and job.mixes_ranks:
        return  # the agent answers with a rank that it trains
    rank = job.rank if isinstance(job, TrainJob) else job.lora.rank
    if compute.max_lora_rank is not None and rank > compute.max_lora_rank:
        above = f"rank {rank} is above compute.max_lora_rank = {compute.max_lora_rank}"
        remedy = "raise it, or ask the operator for a smaller lora.rank or an algorithm that mixes ranks"
        raise _refused(f"{above}; {remedy}")


def _matches(text: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _refused(reason: str) -> TaskFailed:
    return TaskFailed(FailureKind.REFUSED_BY_POLICY, f"refused by this agent's policy: {reason}")
