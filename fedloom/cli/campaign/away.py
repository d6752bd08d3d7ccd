"""Which of a campaign's agents are away, for people."""

from fedloom.cli import output
from shared.states import ParticipantState
from shared.wire.campaigns import CampaignDetail

NAMES_SHOWN = 5
_MAY_BE_NEEDED = (
    ParticipantState.PREPARING,
    ParticipantState.PREPARED,
    ParticipantState.WAITING,  # its owner may still accept, or go on
    ParticipantState.PAUSED,
)


class AwayNotes:
    """Says once that an agent is away, and once that it is back."""

    def __init__(self) -> None:
        self._away: dict[str, str] = {}

    def changes(self, campaign: CampaignDetail) -> list[str]:
        """A line for each agent that went or came back since the last call."""
        now = away_by_name(campaign)
        went = [f"{name} is away since {since}" for name, since in now.items() if name not in self._away]
        back = [] if campaign.state.is_final else [f"{name} is back" for name in self._away if name not in now]
        self._away = now
        return went + back


def away_by_name(campaign: CampaignDetail) -> dict[str, str]:
    """Since when the agents that a campaign may still need are away, by name. Empty for one that has ended."""
    if campaign.state.is_final:
        return {}
    return {
        each.agent_name: output.since(each.away_since)
        for each in campaign.participants
        if each.away_since is not None and each.state in _MAY_BE_NEEDED
    }


def away_in_words(campaign: CampaignDetail) -> str:
    """The agents that are away, in one line; empty if none is."""
    away = [f"{name} since {since}" for name, since in away_by_name(campaign).items()]
    return f"away: {output.some_of(away, NAMES_SHOWN)}" if away else ""
