"""What the owner's settings refuse of the amount of a campaign's work, as far as it is known."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from agent.configuration.policy import PolicySettings
from agent.policy.refusals import Refusal
from agent.record.campaigns import Prepared
from shared.campaign.spec import CampaignSpec
from shared.plugins import PluginUnavailable


@dataclass(frozen=True)
class Amounts:
    """What an agent does in a round. None while its rows are not counted.

    Args:
        steps: optimizer steps.
        n_rows: rows that they use, each as often as it is.
        n_distinct: the most distinct rows that can be among them.
        epochs: passes over the agent's rows.
    """

    steps: int | None
    n_rows: int | None
    n_distinct: int | None
    epochs: float | None

    @classmethod
    def of(cls, spec: CampaignSpec, prepared: Prepared | None) -> "Amounts":
        """The amounts by a specification, and by the rows if they are counted."""
        training = spec.training
        if prepared is not None:
            steps = training.steps_for(prepared.n_train)
            n_rows = steps * training.batch_size
            return cls(steps, n_rows, min(n_rows, prepared.n_distinct), n_rows / max(1, prepared.n_train))
        if training.steps is None:
            return cls(None, None, None, training.epochs)
        n_rows = training.steps * training.batch_size
        return cls(training.steps, n_rows, n_rows, None)


def amount_refusals(policy: PolicySettings, spec: CampaignSpec, prepared: Prepared | None) -> Iterator[Refusal]:
    """What the settings refuse of the amount of work. prepared: what was counted; None before."""
    amounts = Amounts.of(spec, prepared)
    field = "training.steps" if spec.training.steps is not None else "training.epochs"
    yield from _few_rows(policy, spec, amounts, prepared)
    if policy.max_rows_per_task is not None and (amounts.n_rows or 0) > policy.max_rows_per_task:
        asked = f"a round uses {amounts.n_rows} rows"
        yield Refusal("policy.max_rows_per_task", str(policy.max_rows_per_task), asked, field=field)
    if policy.max_steps is not None and (amounts.steps or 0) > policy.max_steps:
        yield Refusal("policy.max_steps", str(policy.max_steps), f"a round has {amounts.steps} steps", field=field)
    if policy.max_rounds is not None and spec.rounds > policy.max_rounds:
        yield Refusal("policy.max_rounds", str(policy.max_rounds), f"rounds is {spec.rounds}", field="rounds")
    epochs = round(spec.rounds * (amounts.epochs or 0), 9)  # 3 * 0.1 is a little more than 0.3
    # of clients that are drawn nobody knows how often; their totals bind
    if policy.max_epochs is not None and spec.selection.clients_per_round == "all" and epochs > policy.max_epochs:
        over = f" over {prepared.n_train} rows" if prepared is not None else ""
        asked = f"{spec.rounds} round{'' if spec.rounds == 1 else 's'} make {passes(epochs)}{over}"
        remedy = f"lower rounds or {field}"
        yield Refusal("policy.max_epochs", f"{policy.max_epochs:g}", asked, remedy, field)


def _few_rows(
    policy: PolicySettings, spec: CampaignSpec, amounts: Amounts, prepared: Prepared | None
) -> Iterator[Refusal]:
    training, least = spec.training, str(policy.min_rows)
    if prepared is not None and prepared.n_distinct < policy.min_rows:  # nothing in the campaign helps
        yield from rows_refusals(policy, prepared.n_distinct)
    elif amounts.n_distinct is not None and amounts.n_distinct < policy.min_rows:
        field = "training.steps" if training.steps is not None else "training.epochs"
        remedy = f"raise {field} or training.batch_size"
        yield Refusal("policy.min_rows", least, _standing(amounts.n_distinct), remedy, field)
    elif (n_remembered := rows_remembered(spec)) < policy.min_rows:
        asked = (
            f"each step undoes {training.batch_size / n_remembered:.0%} of those before it, by learning rate and "
            f"weight decay or the algorithm's pull to the start, so an update would stand on {n_remembered:.0f} rows"
        )
        yield Refusal("policy.min_rows", least, asked, "lower them, or raise training.batch_size", "training")


def rows_refusals(policy: PolicySettings, n_distinct: int) -> Iterator[Refusal]:
    """What the settings refuse of an update with so many distinct rows behind it."""
    if n_distinct < policy.min_rows:
        yield Refusal("policy.min_rows", str(policy.min_rows), _standing(n_distinct))


def rows_remembered(spec: CampaignSpec) -> float:
    """The rows that a training remembers: the batch, over the share of the earlier steps that each step undoes.

    That share is the learning rate times what pulls the weights back. At 1 each step undoes all before it, so that an
    update stands on its last batch alone, however many rows were used. Infinite without a pull.
    """
    training = spec.training
    try:
        pull = spec.algorithm.pull
    except (PluginUnavailable, ValidationError):
        pull = 0.0  # a client half that cannot be used here trains nothing
    undone = training.learning_rate * (training.weight_decay + pull)
    if undone <= 0:
        return math.inf
    return training.batch_size / undone if undone < 1 else float(training.batch_size)  # also if it is no number


def passes(epochs: float) -> str:
    """Passes to two places, rounded up: what is above a limit never reads as the limit itself."""
    number = f"{math.ceil(round(epochs * 100, 6)) / 100:g}"
    return f"{number} pass{'' if number == '1' else 'es'}"


def _standing(n_distinct: int) -> str:
    return f"an update would stand on {n_distinct} distinct row{'' if n_distinct == 1 else 's'}"
