"""What of a campaign's benchmarks runs at an owner: by the settings first, then by what is on this machine."""

from agent.benchmarks.interface import Asked, Available, Benchmarks, MakeBenchmarks
from agent.configuration.settings import AgentSettings
from agent.errors import TaskFailed
from shared.campaign.evaluation import EvaluationSection
from shared.wire.tasks.leases import FailureKind

_NOTHING_RUNS = "this agent cannot run benchmarks: it was started without what runs them"


def made(make: MakeBenchmarks | None) -> Benchmarks:
    """What runs benchmarks. Raises TaskFailed (benchmark) if nothing here does."""
    if make is None:
        raise TaskFailed(FailureKind.BENCHMARK, _NOTHING_RUNS)
    try:
        return make()
    except ImportError as error:
        message = "this agent cannot run benchmarks: a library is missing"
        raise TaskFailed(FailureKind.BENCHMARK, message, f"{message} ({error})") from error


def available(settings: AgentSettings, evaluation: EvaluationSection, make: MakeBenchmarks | None) -> Available:
    """What can run here of a campaign's benchmarks, and why the others do not.

    Args:
        settings: the owner's.
        evaluation: of the campaign.
        make: makes what runs benchmarks; None if nothing does. It is not called for what the owner does not allow.
    """
    allowed = settings.policy.benchmarks
    names = [name for name in evaluation.benchmarks if name in allowed]
    others = [name for name in evaluation.benchmarks if name not in allowed]
    reasons = dict.fromkeys(others, "policy.suites does not name it")
    if not names:
        return Available((), reasons)
    try:
        benchmarks = made(make)
    except TaskFailed as error:
        return Available((), {**reasons, **dict.fromkeys(names, str(error))})
    found = benchmarks.available(Asked(names, settings.evaluation.data, evaluation.limit, evaluation.seed))
    return Available(found.offered, {**reasons, **found.reasons})
