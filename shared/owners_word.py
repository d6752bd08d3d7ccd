"""An owner's word on its agent's part in a campaign: how the agent says it, and what it makes of that part."""

from collections.abc import Mapping
from enum import Enum

from shared.states import ParticipantState
from shared.wire.agents import Part
from shared.wire.tasks.leases import FailureKind


class Word(Enum):
    """What an owner says of a campaign in which its agent does no work now.

    Args:
        failure: answers a task of the campaign. It is no failure: nobody has to mend anything.
        part: says it at any other time. None where only tasks are answered, as the owner has not decided.
        state: the agent's part after it.
        text: the same for people.
    """

    WAITS = (
        FailureKind.WAITING_FOR_OWNER,
        None,
        ParticipantState.WAITING,
        "waiting for its owner to accept the campaign",
    )
    PAUSED = FailureKind.PAUSED_BY_OWNER, Part.PAUSED, ParticipantState.PAUSED, "paused by its owner"
    REFUSED = FailureKind.REFUSED_BY_OWNER, Part.LEFT, ParticipantState.LEFT, "its owner refused the campaign"
    LEFT = FailureKind.REFUSED_BY_OWNER, Part.LEFT, ParticipantState.LEFT, "its owner has left the campaign"

    def __init__(self, failure: FailureKind, part: Part | None, state: ParticipantState, text: str) -> None:
        self.failure = failure
        self.part = part
        self.state = state
        self.text = text

    @classmethod
    def of_part(cls, part: Part, before: ParticipantState) -> "Word":
        """The word that PAUSED or LEFT stands for, at an agent whose state was *before*."""
        assert part is not Part.TAKES_PART
        if part is Part.PAUSED:
            return cls.PAUSED
        return cls.REFUSED if before is ParticipantState.WAITING else cls.LEFT


STATES: Mapping[FailureKind, ParticipantState] = {word.failure: word.state for word in Word}
"""The failures by which agents pass their owner's word on, with the state of the agent's part after each."""
