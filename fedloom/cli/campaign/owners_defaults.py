"""Tells an operator, before a campaign starts, what the default settings of owners would refuse."""

from typing import TYPE_CHECKING

from fedloom.cli import output
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from agent.policy.refusals import Refusal
    from shared.campaign.spec import CampaignSpec

_OWN = ("base.model",)
"""Fields that each owner's settings have to name: the defaults refuse every value of them."""


def refusals_by_default(spec: "CampaignSpec") -> "list[Refusal]":
    """What the settings of an owner who changed nothing would refuse, but for what each owner has to name."""
    from agent.configuration.settings import AgentSettings
    from agent.policy.campaign_rules import campaign_refusals

    return [each for each in campaign_refusals(AgentSettings(), spec) if each.field not in _OWN]


def print_refusals(spec: "CampaignSpec", *, as_json: bool, alone: bool = False) -> bool:
    """Print what owners' default settings would refuse. Returns whether there is something.

    Args:
        spec: the campaign.
        as_json: whether the output is JSON, so that the words go elsewhere.
        alone: whether that is all that the command says.
    """
    refusals = refusals_by_default(spec)
    if alone and as_json:
        output.print_json({"refusals": [each.as_json() for each in refusals]})
        return bool(refusals)
    err = not alone  # beside what the command itself prints
    if refusals:
        output.say(f"owners' default settings would refuse {spec.name}:", err=err)
    for each in refusals:
        words = f"- {each.asked}, and {each.key} = {each.value}; to change: {each.remedy or each.field}"
        output.say(visible_line(words), err=err)
    allow = visible_line(f"each owner must first allow the base model {spec.base.model}")
    if refusals:
        output.say(allow, err=err)
    elif alone:
        output.say(f"owners' default settings refuse nothing of {spec.name}; {allow}")
    return bool(refusals)
