"""`fedloom agent release`: what the owner sees of a held update, and what the command does with a yes and without."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from agent.record.held import HeldUpdate
from fedloom.cli.agent import release_command
from fedloom.cli.agent.words.held import norms_in_words
from tests.cli.owner.conftest import OwnersAgent
from tests.support.processes import wait_until

HOLDS = "hold_updates = true\n"
HOSTILE = "red \x1b[31m\u202e\u200b text [bold]x[/bold]"


def held(owner: OwnersAgent, campaign_id: str, number: int = 1) -> HeldUpdate:
    """Wait until the update of a round is held and reviewed."""

    def found() -> HeldUpdate | None:
        kept = [each for each in owner.record.held.kept(campaign_id) if each.round == number and each.is_held]
        return kept[0] if kept and kept[0].review is not None else None

    update = wait_until(found, "a held update", 60)
    assert isinstance(update, HeldUpdate)
    return update


def begin(owner: OwnersAgent, **changes: Any) -> str:
    campaign_id = owner.create(**changes)
    owner.asked(campaign_id)
    assert owner.approves(campaign_id).code == 0
    return campaign_id


@pytest.fixture
def holding(owner: OwnersAgent) -> Iterator[tuple[OwnersAgent, str]]:
    """A running agent that holds its first update, and the campaign's id."""
    owner.write_settings("[network]\nwait_s = 0.5\n", HOLDS)
    with ExitStack() as stack:
        stack.enter_context(owner.running())
        campaign_id = begin(owner)
        held(owner, campaign_id)
        yield owner, campaign_id


def lines_fit(text: str) -> bool:
    return max(map(len, text.splitlines())) <= 80


def test_it_shows_the_update_and_asks_where_there_is_a_terminal_to_ask_on(holding: tuple[OwnersAgent, str]) -> None:
    owner, campaign_id = holding
    ran = owner.says("release", "small")
    assert ran.code == 2
    assert lines_fit(ran.out)
    words = " ".join(ran.out.split())
    assert "campaign small" in words
    assert "round 1, 1 step" in words
    assert "no round before it" in words
    assert "2.0000 before, 1.5000 after (nats/token, on your 2 held-out rows)" in words
    for number in range(1, 6):
        assert f"prompt {number} prompt {number} before before {number} after after {number}" in words
    line = f"fedloom agent release {campaign_id} --round 1 --yes --home {owner.home}"
    assert line in " ".join(ran.err.split())
    assert owner.sent("delta") == []
    said = owner.process.process.printed()
    see = f"fedloom agent release {campaign_id} --round 1 --home {owner.home}"
    go = f"fedloom agent release {campaign_id} --round 1 --yes --home {owner.home}"
    assert f"the update of round 1 of campaign small is held: see it with {see}, release it with {go}" in said
    assert "held-out loss 2.0000 -> 1.5000 with the held update, on 2 of your rows" in said


def test_a_yes_lets_it_go_and_later_rounds_are_compared_with_it(holding: tuple[OwnersAgent, str]) -> None:
    owner, campaign_id = holding
    listed = owner.says("campaigns")
    assert "small: the update of round 1 is held, and goes after:" in listed.out
    assert f"fedloom agent release {campaign_id} --round 1" in listed.out
    assert json.loads(owner.says("campaigns", "--json").out)[0]["held_rounds"] == [1]
    assert "the update of round 1" in owner.says("campaigns", "small").out
    ran = owner.says("release", "small", "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith("round 1 is released; the agent sends it while it runs, as soon as it is free\n")
    second = held(owner, campaign_id, 2)
    ran = owner.says("release", "small", "--round", "2")
    norms = owner.record.bookings.norms(campaign_id)
    assert f"{norms[2]:.3g}; round 1: {norms[1]:.3g}" in ran.out
    assert owner.says("release", "small", "--yes", "--round", second.round).code == 0
    owner.operator.wait_for(campaign_id, "completed", timeout_s=60)
    assert len(owner.sent("delta")) == 2
    wait_until(lambda: not owner.record.held.kept(), "the end of both", 30)
    ran = owner.says("release", "small")
    assert (ran.code, ran.out) == (
        0,
        "no update of small is held; `hold_updates = true` in [policy] of agent.toml holds the next ones\n",
    )


@pytest.mark.parametrize("answer", [True, False])
def test_at_a_terminal_the_answer_counts(
    holding: tuple[OwnersAgent, str], monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    owner, campaign_id = holding
    asked: list[str] = []
    monkeypatch.setattr(release_command, "is_terminal", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda text, **_: asked.append(text) or answer)
    ran = owner.says("release", campaign_id)
    assert asked == ["Let the update of round 1 go to the coordinator?"]
    if answer:
        assert ran.code == 0
        held(owner, campaign_id, 2)
    else:
        assert (ran.code, ran.err) == (1, "it stays here\n")
        assert owner.record.held.kept(campaign_id)[0].is_held
    assert len(owner.sent("delta")) == int(answer)


@pytest.mark.deep
def test_a_release_without_the_coordinator_stands_and_is_passed_on(holding: tuple[OwnersAgent, str]) -> None:
    owner, campaign_id = holding
    with owner.without_coordinator():
        ran = owner.says("release", "small", "--yes")
    assert ran.code == 0
    assert "round 1 is released" in ran.out
    assert "the coordinator was not told" in ran.err
    assert "the release stands; the agent passes it on while it runs" in ran.err
    held(owner, campaign_id, 2)
    assert len(owner.sent("delta")) == 1


@pytest.mark.deep
def test_a_stopped_agent_sends_what_was_released_meanwhile(owner: OwnersAgent) -> None:
    owner.write_settings("[network]\nwait_s = 0.5\n", HOLDS)
    with owner.running():
        campaign_id = begin(owner, rounds=1)
        held(owner, campaign_id)
    assert owner.says("release", "small", "--yes").code == 0
    ran = owner.says("release", "small", "--yes")
    assert ran.code == 0
    assert "it is released already" in ran.out
    with owner.running():
        owner.operator.wait_for(campaign_id, "completed", timeout_s=60)


def test_a_release_after_the_round_is_over_says_so(holding: tuple[OwnersAgent, str]) -> None:
    owner, campaign_id = holding
    owner.process.process.kill()
    owner.operator.campaign(campaign_id, "cancel")
    ran = owner.says("release", "small", "--yes")
    assert ran.code == 1
    assert "nothing was sent: round 1 is over and did not wait for this update" in ran.err
    assert owner.record.held.kept() == []


def test_several_held_updates_are_listed_with_what_to_type(holding: tuple[OwnersAgent, str]) -> None:
    owner, campaign_id = holding
    owner.process.process.kill()
    first = owner.record.held.kept()[0]
    with owner.record._database.write() as connection:
        connection.execute(
            "INSERT INTO held SELECT campaign, 2, history, task, folder, job, held_at, release_at, released_at, "
            "passed_on_at, ended_at, review, review_tries FROM held"
        )
    ran = owner.says("release", "small", "--yes")
    assert ran.code == 2
    assert "2 updates of small are held; name the round of one:" in ran.err
    for number in (1, 2):
        assert f"fedloom agent release {campaign_id} --round {number} --home {owner.home}" in ran.err
    ran = owner.says("release", "small", "--round", "7")
    assert (ran.code, "no update of round 7 of small is held" in ran.err) == (2, True)
    owner.record.held.end(first)


def test_without_taking_part_nothing_is_released(holding: tuple[OwnersAgent, str]) -> None:
    owner, _ = holding
    assert owner.says("pause", "small").code == 0
    ran = owner.says("release", "small", "--yes")
    assert ran.code == 1
    assert "small is paused, so nothing is sent for it; approve it first" in ran.err
    assert owner.sent("delta") == []


def test_what_rows_and_models_say_is_shown_as_text_in_80_columns(owner: OwnersAgent) -> None:
    answer = {"prompt": f"{HOSTILE}\n{'long ' * 100}", "before": "w" * 300, "after": ""}
    review = {"n_rows": 1, "loss_before": 2.0, "loss_after": 2.5, "unit": "nats/token", "answers": [answer]}
    owner.process.recorded = {"review": review}
    owner.write_settings("[network]\nwait_s = 0.5\n", HOLDS)
    with owner.running():
        campaign_id = begin(owner)
        held(owner, campaign_id)
        ran = owner.says("release", "small")
    assert lines_fit(ran.out)
    assert "\x1b" not in ran.out
    assert "\u202e" not in ran.out
    assert "\\x1b[31m" in ran.out
    assert "[bold]x[/bold]" in ran.out
    assert "(nothing)" in ran.out
    assert "on your 1 held-out row)" in ran.out


def test_an_update_that_is_not_compared_says_why(owner: OwnersAgent) -> None:
    owner.process.recorded = {"review": {"problem": "no rows of notes are held out"}}
    owner.write_settings("[network]\nwait_s = 0.5\n", HOLDS)
    with owner.running():
        campaign_id = begin(owner)
        held(owner, campaign_id)
        ran = owner.says("release", "small")
    assert "not compared   no rows of notes are held out" in ran.out


@pytest.mark.parametrize(
    ("norms", "number", "words"),
    [
        ({1: 0.4, 2: 0.45, 3: 0.41, 4: 0.42}, 4, "0.42; rounds 1-3: 0.4, 0.45, 0.41"),
        ({1: 0.4, 3: 0.41, 4: 0.42}, 4, "0.42; rounds 1, 3: 0.4, 0.41"),
        ({1: 123.456}, 1, "123; no round before it"),
        ({3: 0.4}, 4, "not known; round 3: 0.4"),
        (dict.fromkeys(range(1, 21), 1.0), 20, "1; rounds 12-19: " + ", ".join(["1"] * 8)),
    ],
)
def test_norms_are_shown_beside_those_of_earlier_rounds(norms: dict[int, float], number: int, words: str) -> None:
    assert norms_in_words(norms, number) == words
