"""What an owner hears when a campaign, or its own part in it, changes."""

from typing import Any

import pytest

from agent.network.changes import changes
from shared.wire.agents import OwnCampaign


def seen(state: str = "running", participant: str = "prepared", closed: int = 2, **changed: Any) -> OwnCampaign:
    facts = {"id": "c1", "name": "small", "history": 0, "rounds": 5, "n_train": 10}
    facts |= {"update_round": None, "update_weight": None}
    whole = facts | {"state": state, "participant": participant, "rounds_closed": closed} | changed
    return OwnCampaign.model_validate(whole)


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (None, seen(), ["running, 2 of 5 rounds are done"]),
        (seen(), seen(closed=3), []),
        (seen(), seen("completed", closed=5), ["completed after 5 rounds"]),
        (
            seen(),
            seen("completed", closed=3, update_round=2, update_weight=0.25),
            ["completed early, after 3 of 5 rounds; its update of round 2 weighed 25%"],
        ),
        (seen("paused"), seen("cancelled"), ["stopped after 2 of 5 rounds: the operator cancelled it"]),
        (seen("paused"), seen("running"), ["resumed after 2 of 5 rounds"]),
        (
            seen("completed", closed=5),
            seen("paused", closed=1),
            [
                "rolled back to the end of round 1: later rounds no longer count, and are done again",
                "paused after 1 of 5 rounds, until the operator resumes it",
            ],
        ),
        (seen(), seen(participant="paused"), ["this agent is paused by its owner; approve it again to go on"]),
        (seen(), seen(participant="left"), ["this agent has left; what was sent stays with the coordinator"]),
        (seen(participant="paused"), seen(), ["this agent is back again, after its owner's pause"]),
        (
            seen(participant="left"),
            seen(participant="preparing"),
            ["this agent is back again, after it had left"],
        ),
        (seen(participant="preparing"), seen(), []),
    ],
)
def test_each_change_is_told_in_words(before: OwnCampaign | None, now: OwnCampaign, told: list[str]) -> None:
    assert list(changes(before, now)) == told
