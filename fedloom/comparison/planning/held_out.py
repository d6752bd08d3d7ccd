"""The evaluation of held-out rows while a trial trains: on only where the trial stops or chooses its adapter by it."""

from shared.campaign.evaluation import EvaluationSection
from shared.campaign.spec import CampaignSpec

_KEPT = {"every", "best", "stop"}


def decides_by_evaluation(spec: CampaignSpec) -> bool:
    """Whether the campaign stops early, or says by what its best adapter is chosen."""
    evaluation = spec.evaluation
    return evaluation.stop is not None or "best" in evaluation.model_fields_set


def trial_evaluation(spec: CampaignSpec) -> EvaluationSection:
    """The evaluation of a trial of a campaign, without benchmarks: the comparison takes its scores itself."""
    if not decides_by_evaluation(spec):
        return EvaluationSection(every=0)
    return EvaluationSection.model_validate(spec.evaluation.model_dump(include=_KEPT, exclude_unset=True))


def problem_with_decisions(spec: CampaignSpec) -> str | None:
    """Why trials cannot decide by what the campaign names; None if they can.

    Items of a benchmark would choose an adapter, and then be reported of it.
    """
    if not decides_by_evaluation(spec):
        return None
    metric = next((each for each in spec.evaluation.decides_by if "." in each), None)
    if metric is None:
        return None
    return (
        f"the trials of a comparison stop and choose their adapter by held-out rows, and not by {metric}: items of a "
        "benchmark are for the table; to choose among campaigns by other items, see choose"
    )
