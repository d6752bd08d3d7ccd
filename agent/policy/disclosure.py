"""Disclosure: what leaves of what is measured on the owner's rows. The training child always answers in full.

Everything that a result or a report of progress says passes through here, before it is stored for further attempts and
again before it is sent, so that a stricter setting binds at once. Rounding is hygiene: it guarantees nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, Context

from agent.configuration.policy import PolicySettings
from agent.policy.refusals import Refusal, refuse
from shared.metrics import HELD_OUT_COUNTS, LOSSES_OF_STEPS, Metric, Origin, Values, Weight
from shared.wire.tasks.leases import Progress
from shared.wire.tasks.results import EvaluateResult, PrepareResult, Result, TrainResult

_STEPS = "steps"
_ROUGH = ("seconds",)
"""Beside the means and the steps, what leaves of a training: the coordinator sees its duration anyway. Numbers of
tokens, speed and memory stay, because they tell the lengths of rows."""
_DIGITS = 3
_DIGITS_OF_TOKENS = 2
"""Significant digits of a number of tokens, which only weighs a client in a mean: a weight is at most 5 % off, and off
alike for every adapter."""


@dataclass(frozen=True)
class Disclosure:
    """What one owner's settings let out in a campaign.

    Args:
        policy: the owner's settings.
        metrics: the metrics of the campaign by name. What is not among them leaves only with everything.
    """

    policy: PolicySettings
    metrics: Mapping[str, Metric]

    def progress(self, progress: Progress) -> Progress:
        """The progress that leaves: phase and step always, what is measured on rows only live."""
        if self.policy.report == "live":
            return progress
        return Progress(phase=progress.phase, done=progress.done, total=progress.total)

    def prepared(self, result: PrepareResult, n_distinct_held_out: int) -> PrepareResult:
        """What leaves of a preparation: also what is reported later, and whether this agent evaluates."""
        evaluates = not evaluation_refusals(self.policy, n_distinct_held_out)
        return result.model_copy(update={"report": self.policy.report, "evaluates": evaluates})

    def result(self, result: Result) -> Result:
        """The result that leaves. What left once comes out as it is, unless the settings are stricter now.

        result: what the child answered, or what left before. Raises TaskFailed (refused-by-policy) for an evaluation
        that the settings do not let out.
        """
        match result:
            case TrainResult():
                return result.model_copy(update={"metrics": self._of_training(result.metrics)})
            case EvaluateResult():
                return result.model_copy(update={"metrics": self._of_evaluation(result.metrics)})
            case _:
                return result

    def _of_training(self, values: Values) -> Values:
        if self.policy.report == "live":
            return values
        steps = {name: value for name, value in values.items() if name == _STEPS}
        if self.policy.report == "none":
            return steps
        means = {name: value for name, value in values.items() if self._is_mean_of_training(name)}
        rough = {name: value for name, value in values.items() if name in _ROUGH}
        return steps | self._rounded(means | rough)

    def _is_mean_of_training(self, name: str) -> bool:
        metric = self.metrics.get(name)
        is_of_training = metric is not None and metric.origin is Origin.TRAINING and metric.weight is Weight.UPDATE
        return is_of_training and name not in LOSSES_OF_STEPS

    def _of_evaluation(self, values: Values) -> Values:
        n_rows_name, n_tokens_name = HELD_OUT_COUNTS[Weight.ROWS], HELD_OUT_COUNTS[Weight.TOKENS]
        refuse(evaluation_refusals(self.policy, int(values.get(n_rows_name, 0))))
        if self.policy.report == "live":
            return values
        known = {name: value for name, value in values.items() if name in self.metrics}
        counts = {name: known.pop(name) for name in (n_rows_name, n_tokens_name) if name in known}
        if n_tokens_name in counts:
            counts[n_tokens_name] = significant(counts[n_tokens_name], _DIGITS_OF_TOKENS)
        return self._rounded(known) | counts

    def _rounded(self, values: Values) -> Values:
        """Values with few digits, within the bounds of their metrics. Those that are not finite do not leave."""
        rounded = {name: significant(value, _DIGITS) for name, value in values.items() if math.isfinite(value)}
        return {name: _bounded(self.metrics.get(name), value) for name, value in rounded.items()}


def gain_refusals(policy: PolicySettings, n_held_out: int) -> list[Refusal]:
    """What the settings refuse of telling the operator a gain on so many distinct held-out rows."""
    if not policy.report_gain:
        return [Refusal("policy.report_gain", "false", "telling the operator what this owner gains")]
    return evaluation_refusals(policy, n_held_out)


def rounded_loss(value: float) -> float:
    """A finite loss as it leaves with ``report = "round"``."""
    return significant(value, _DIGITS)


def evaluation_refusals(policy: PolicySettings, n_held_out: int) -> list[Refusal]:
    """What the settings refuse of evaluations on so many distinct held-out rows."""
    if policy.report == "none":
        return [Refusal("policy.report", '"none"', "an evaluation reports losses")]
    if n_held_out < policy.min_held_out:
        asked = f"an evaluation would stand on {n_held_out} held-out rows"
        return [Refusal("policy.min_held_out", str(policy.min_held_out), asked)]
    return []


def significant(value: float, digits: int) -> float:
    """A finite value rounded to so many significant digits; one that would become infinite is cut."""
    rounded = float(Context(prec=digits).create_decimal(value))
    if math.isinf(rounded):
        rounded = float(Context(prec=digits, rounding=ROUND_DOWN).create_decimal(value))
    return rounded + 0.0  # no negative zero


def _bounded(metric: Metric | None, value: float) -> float:
    """A value moved to the nearest bound of its metric, which rounding may have passed."""
    if metric is None:
        return value
    least = -math.inf if metric.minimum is None else metric.minimum
    most = math.inf if metric.maximum is None else metric.maximum
    return min(max(value, least), most)
