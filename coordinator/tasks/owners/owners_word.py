"""An owner's word on its agent's part in a campaign: not yet, not now, no, and yes."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from coordinator import lifecycle, task_moves
from coordinator.client_count import recount_clients
from coordinator.database.tables import CampaignRow, ParticipantRow
from coordinator.events.log import record
from coordinator.services import Services
from coordinator.tasks.owners.parts import lock_part
from shared.events import EventType
from shared.owners_word import Word
from shared.states import ParticipantState, TaskKind
from shared.wire.agents import Part

P = ParticipantState

_REFUSED = {Part.TAKES_PART: "joined", Part.PAUSED: "paused", Part.LEFT: "left"}
"""What a campaign that is over can no longer be."""


async def take(
    session: AsyncSession,
    campaign: CampaignRow,
    participant: ParticipantRow,
    state: ParticipantState,
    message: str,
    now: datetime,
) -> None:
    """Move a participant by its owner's word, if it is not there yet, and record that.

    Args:
        session: the transaction, in which the campaign is locked.
        campaign: the campaign.
        participant: the agent's part in it.
        state: WAITING, PAUSED or LEFT.
        message: what its owner says, in words.
        now: the time.
    """
    if participant.state is state or not lifecycle.is_legal(participant.state, state):
        return
    await lifecycle.move(session, participant, state, reason=message)
    if state is P.LEFT:
        await recount_clients(session, campaign)
    event = EventType.AGENT_LEFT if state is P.LEFT else EventType.AGENT_WAITS
    record(session, campaign, now, event, agent=participant.agent_name, message=message)


async def set_part(services: Services, campaign_id: str, agent_id: str, part: Part) -> None:
    """Let an agent take part, pause or leave, as its owner says. Repeating it changes nothing.

    Raises NotFound, and IllegalMove if the campaign is over.
    """
    async with services.database.write("owner") as session:
        campaign, participant = await lock_part(session, campaign_id, agent_id, _REFUSED[part])
        now = services.clock.now()
        if part is Part.TAKES_PART:
            await _let_in(session, campaign, participant, now)
        else:
            word = Word.of_part(part, participant.state)
            await take(session, campaign, participant, word.state, word.text, now)
            await task_moves.cancel_of_agent(session, now, campaign.id, agent_id)
        campaign.due_at = now
        services.notifiers.after_commit(session, campaign_id=campaign.id, agent_ids=[agent_id])


async def _let_in(session: AsyncSession, campaign: CampaignRow, participant: ParticipantRow, now: datetime) -> None:
    """Have an agent prepare that was waiting or had left; one that was paused goes on as it was."""
    if participant.state is P.PAUSED and participant.fingerprint is not None:
        await lifecycle.move(session, participant, P.PREPARED, reason=None)
    elif participant.state in (P.WAITING, P.LEFT, P.PAUSED, P.FAILED, P.MISMATCHED):
        await lifecycle.move(session, participant, P.PREPARING, reason=None)
        await recount_clients(session, campaign)
        task_moves.add(session, now, campaign.id, participant.agent_id, TaskKind.PREPARE)
    else:
        return
    record(session, campaign, now, EventType.AGENT_BACK, agent=participant.agent_name)
