"""What changed of a campaign since the last look, in words for its owner."""

from collections.abc import Iterator

from shared.states import CampaignState, ParticipantState
from shared.wire.agents import OwnCampaign

_BEFORE_ROUNDS = (CampaignState.PREPARING, CampaignState.INITIALIZING)
_AWAY = {ParticipantState.PAUSED: "after its owner's pause", ParticipantState.LEFT: "after it had left"}
_BACK = (ParticipantState.PREPARING, ParticipantState.PREPARED)


def changes(before: OwnCampaign | None, now: OwnCampaign) -> Iterator[str]:
    """What happened to a campaign, and to this agent's part in it, each in a phrase.

    before: the campaign when it was last seen; None if it was not.
    """
    state = before.state if before is not None else None
    if before is not None and now.rounds_closed < before.rounds_closed and not now.state.is_final:
        yield f"rolled back to the end of round {now.rounds_closed}: later rounds no longer count, and are done again"
    if now.state is not state and (words := _state(state, now)):
        yield words
    if before is not None and now.participant is not before.participant and not now.state.is_final:
        yield from _part(before.participant, now.participant)


def _state(before: CampaignState | None, now: OwnCampaign) -> str:
    of = f"{now.rounds_closed} of {now.rounds} rounds"
    match now.state:
        case CampaignState.COMPLETED if now.rounds_closed == now.rounds:
            return f"completed after {now.rounds} round{'' if now.rounds == 1 else 's'}{own_weight(now)}"
        case CampaignState.COMPLETED:
            return f"completed early, after {of}{own_weight(now)}"
        case CampaignState.CANCELLED:
            return f"stopped after {of}: the operator cancelled it{own_weight(now)}"
        case CampaignState.PAUSED:
            return f"paused after {of}, until the operator resumes it"
        case CampaignState.RUNNING if before is None or before in _BEFORE_ROUNDS:
            return f"running, {of} are done"
        case _ if before is CampaignState.PAUSED:
            return f"resumed after {of}"
        case _:
            return ""


def _part(before: ParticipantState, now: ParticipantState) -> Iterator[str]:
    if before in _AWAY and now in _BACK:
        yield f"this agent is back again, {_AWAY[before]}"
    elif now is ParticipantState.PAUSED:
        yield "this agent is paused by its owner; approve it again to go on"
    elif now is ParticipantState.LEFT:
        yield "this agent has left; what was sent stays with the coordinator"


def own_weight(campaign: OwnCampaign) -> str:
    """What the agent's last update that counted weighed; empty if none has."""
    if campaign.update_weight is None:
        return ""
    return f"; its update of round {campaign.update_round} weighed {campaign.update_weight:.0%}"
