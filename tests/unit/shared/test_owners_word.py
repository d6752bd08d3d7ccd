"""Agents and the coordinator read an owner's word from one table."""

from agent.acceptance import WORDS
from agent.owner.word import PARTS
from agent.record.campaigns import Decision
from coordinator import lifecycle
from shared.owners_word import STATES, Word
from shared.states import ParticipantState
from shared.wire.agents import Part

P = ParticipantState


def test_every_decision_has_its_word_or_takes_part() -> None:
    assert set(WORDS) == set(Decision) - {Decision.ACCEPTED}
    assert set(WORDS.values()) == set(Word)
    assert set(Decision) - set(PARTS) == {Decision.WAITING}


def test_a_decision_means_the_same_whichever_way_it_is_told() -> None:
    for decision, word in WORDS.items():
        assert STATES[word.failure] is word.state, "as the answer to a task"
        if decision in PARTS:
            assert Word.of_part(PARTS[decision], P.PREPARED).state is word.state, "at any other time"


def test_whoever_was_asked_and_says_no_refuses_and_whoever_took_part_leaves() -> None:
    leaving = {state: Word.of_part(Part.LEFT, state) for state in P if lifecycle.is_legal(state, P.LEFT)}
    assert {state for state, word in leaving.items() if word is Word.REFUSED} == {P.WAITING}
    assert {word for state, word in leaving.items() if state is not P.WAITING} == {Word.LEFT}
