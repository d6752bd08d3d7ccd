"""What of a campaign's specification the owner's settings refuse, at first before anything is fetched or read."""

import json
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from agent.configuration.policy import PolicySettings
from agent.configuration.settings import AgentSettings
from agent.policy.amounts import amount_refusals
from agent.policy.precision import precision_refusals
from agent.policy.refusals import Refusal
from agent.record.campaigns import Prepared
from shared.campaign.spec import CampaignSpec


def campaign_refusals(
    settings: AgentSettings, spec: CampaignSpec, prepared: Prepared | None = None, *, mixes_ranks: bool = False
) -> list[Refusal]:
    """Everything that the settings refuse of a campaign, by its specification, and by its rows once they are counted.

    Args:
        settings: the owner's.
        spec: the campaign's.
        prepared: what its preparation found; None before.
        mixes_ranks: whether the algorithm lets an agent train a smaller rank than the campaign's.
    """
    policy = settings.policy
    return [
        *_model(settings, spec),
        *_names(policy, spec),
        *_ranges(policy, spec),
        *amount_refusals(policy, spec, prepared),
        *_retention(policy, spec),
        *_company(policy, spec),
        *_largest_rank(settings, spec, mixes_ranks=mixes_ranks),
        *_precision(settings, spec, prepared),
    ]


def _model(settings: AgentSettings, spec: CampaignSpec) -> Iterator[Refusal]:
    model, patterns = spec.base.model, settings.policy.base_models
    if model not in settings.models and not _matches(model, patterns):
        remedy = f"to allow it, add it there, or map it to a folder in [models]: {_toml(model)} = ..."
        yield Refusal("policy.base_models", _toml(patterns), f"the base model is {model}", remedy, "base.model")


def _names(policy: PolicySettings, spec: CampaignSpec) -> Iterator[Refusal]:
    if spec.kind not in policy.kinds:
        yield Refusal("policy.kinds", _toml(policy.kinds), f"the kind of training is {spec.kind}", field="kind")
    if not _matches(spec.algorithm.name, policy.algorithms):
        asked = f"the algorithm is {spec.algorithm.name}"
        yield Refusal("policy.algorithms", _toml(policy.algorithms), asked, field="algorithm.name")


def _ranges(policy: PolicySettings, spec: CampaignSpec) -> Iterator[Refusal]:
    asked = {
        "batch_size": ("training.batch_size", spec.training.batch_size),
        "max_length": ("training.max_length", spec.training.max_length),
        "rank": ("lora.rank", spec.lora.rank),
    }
    for key, (field, value) in asked.items():
        least, most = getattr(policy, key)
        if not least <= value <= most:
            yield Refusal(f"policy.{key}", _toml([least, most]), f"{field} is {value}", field=field)


def _retention(policy: PolicySettings, spec: CampaignSpec) -> Iterator[Refusal]:
    if spec.retention.updates > policy.retention_updates:
        asked = f"retention.updates is {spec.retention.updates}: the coordinator would keep each update for that long"
        yield Refusal("policy.retention_updates", str(policy.retention_updates), asked, field="retention.updates")


def _company(policy: PolicySettings, spec: CampaignSpec) -> Iterator[Refusal]:
    """Whether the campaign could run, or a round close, with too few others."""
    selection = spec.selection
    drawn = selection.clients_per_round
    wanted = policy.min_participants if drawn == "all" else min(policy.min_participants, drawn)
    if selection.minimum < wanted:
        yield Refusal(
            "policy.min_participants",
            str(policy.min_participants),
            f"selection.minimum is {selection.minimum}, so the campaign may start with so few clients",
            f"set selection.minimum to {wanted} or more",
            "selection.minimum",
        )
    elif selection.minimum < policy.min_in_round:
        yield Refusal(
            "policy.min_in_round",
            str(policy.min_in_round),
            f"selection.minimum is {selection.minimum}, so a round may close with so few updates",
            f"set selection.minimum to {policy.min_in_round} or more",
            "selection.minimum",
        )


def _largest_rank(settings: AgentSettings, spec: CampaignSpec, *, mixes_ranks: bool) -> Iterator[Refusal]:
    largest = settings.compute.max_lora_rank
    if largest is not None and spec.lora.rank > largest and not mixes_ranks:
        remedy = "ask for a smaller lora.rank or an algorithm that mixes ranks"
        yield Refusal("compute.max_lora_rank", str(largest), f"lora.rank is {spec.lora.rank}", remedy, "lora.rank")


def _precision(settings: AgentSettings, spec: CampaignSpec, prepared: Prepared | None) -> Iterator[Refusal]:
    """Of another device than a named CPU the training child knows what it is, and refuses in the same words."""
    if settings.compute.device == "cpu":
        base = spec.base if prepared is None else spec.base.decided(prepared.cpu_dtype)
        yield from precision_refusals(settings.compute, base.cpu_dtype)


def _matches(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
