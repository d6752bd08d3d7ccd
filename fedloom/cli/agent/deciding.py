"""An owner's decision about a campaign: into the record first, which counts, and then to the coordinator."""

import asyncio
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedloom.cli import output
from shared.agent_home import home_option
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from agent.policy.refusals import Refusal
    from agent.record.campaigns import Decision, KnownCampaign
    from fedloom.cli.agent.known import OwnersHome
    from shared.wire.agents import Part

_NOT_OVERRIDDEN = "No approval overrides agent.toml: change the keys there if you want to take part, and approve again."


def refusals_of(home: "OwnersHome", known: "KnownCampaign") -> "list[Refusal]":
    """What the settings refuse of a campaign, by all that is known now."""
    from agent.policy.verdict import standing_refusals

    return standing_refusals(home.settings, home.record.bookings, known)


def refusal_lines(refusals: "Iterable[Refusal]") -> list[str]:
    """Each refusal as a line of a list."""
    return [visible_line(f"- {refusal}") for refusal in refusals]


def refusal_in_words(
    home: "OwnersHome", known: "KnownCampaign", heading: str = "your settings refuse it:"
) -> list[str]:
    """Lines that say what the settings refuse of a campaign, and what to do; none if they refuse nothing.

    Args:
        home: the agent's folder, with the settings.
        known: the campaign.
        heading: the first line.
    """
    lines = refusal_lines(refusals_of(home, known))
    return [heading, *lines, _NOT_OVERRIDDEN] if lines else []


def record_decision(home: "OwnersHome", known: "KnownCampaign", decision: "Decision") -> bool:
    """Record what the owner decided about a campaign as it is known. Returns False if it has changed meanwhile."""
    from agent.record.campaigns import Decider

    return home.record.campaigns.decide(known, decision, Decider.OWNER)


@dataclass(frozen=True)
class Told:
    """Whether the coordinator heard a decision.

    problem: why it did not; empty if it did. is_final: the problem stays. is_over: the campaign is over, so nobody has
    to hear anything.
    """

    problem: str = ""
    is_final: bool = False
    is_over: bool = False

    def say(self) -> None:
        """Say that the coordinator did not hear the decision, and who tells it later. Nothing of one that is over."""
        if self.problem and not self.is_over:
            output.say(f"the coordinator was not told: {visible_line(self.problem)}", err=True)
            later = "" if self.is_final else "; the agent passes it on while it runs, as soon as it can"
            output.say(f"the decision stands{later}", err=True)


def tell(home: "OwnersHome", campaign_id: str, part: "Part") -> Told:
    """Tell the coordinator what the owner wants."""
    from agent.errors import AgentError, CoordinatorRefused
    from agent.network.api import CoordinatorApi
    from shared.wire.problems import ProblemType

    async def send() -> None:
        api = CoordinatorApi.of(home.identity, home.workspace.ledger, home.settings.network)
        try:
            await api.set_part(campaign_id, part)
        finally:
            await api.close()

    try:
        asyncio.run(send())
    except CoordinatorRefused as refused:
        return Told(str(refused), is_final=True, is_over=refused.kind == ProblemType.ILLEGAL_MOVE)
    except (AgentError, OSError) as error:
        return Told(str(error))
    return Told()


def command(verb: str, campaign: str, home: Path, *options: str) -> str:
    """The line to type for an agent command.

    Args:
        verb: approve, run or the like.
        campaign: what names the campaign; empty for commands that need none.
        home: the home folder.
        options: further ones.
    """
    return shlex.join(["fedloom", "agent", verb, *([campaign] if campaign else []), *options]) + home_option(home)
