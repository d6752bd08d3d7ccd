"""On a terminal the agent shows a campaign and asks, while other work goes on."""

import pytest

from agent.record.campaigns import Decider, Decision
from tests.cli.owner.conftest import OwnersAgent
from tests.support.owners_screen import on_terminal, owners_screen

QUESTION = r"Take part in small, by the digest\s+[0-9a-f]{64}\?\s+Type y \(yes\), n \(no\) or l \(later\), and Enter:"


def test_a_yes_on_the_terminal_lets_the_campaign_run_to_its_end(owner: OwnersAgent) -> None:
    with owners_screen(owner.home) as screen:
        screen.wait_for("waiting for work")
        screen.type("y\n")  # typed before the question: no answer to it
        campaign_id = owner.create()
        screen.wait_for(QUESTION)
        owner.wait_for_state(campaign_id, "waiting")
        assert screen.text.count(owner.asked(campaign_id).spec_sha256) == 2, "in the words, and in the question"
        screen.type("sure\n")
        screen.wait_for(f"(?s){QUESTION}.*{QUESTION}")
        screen.type("y\n")
        screen.wait_for(r"you take part in campaign small")
        owner.operator.wait_for(campaign_id, "completed", timeout_s=60)
        assert screen.text.count("A campaign waits for you.") == 1
        assert screen.press_ctrl_c() == 0
    assert "stopped" in screen.text
    known = owner.asked(campaign_id)
    assert (known.decision, known.decided_by) == (Decision.ACCEPTED, Decider.OWNER)


@pytest.mark.deep
def test_no_and_later_are_answers_too_and_ctrl_c_ends_a_question(owner: OwnersAgent) -> None:
    with owners_screen(owner.home) as screen:
        refused, later, left_open = (owner.create(name=name) for name in ("one", "two", "three"))
        for number, (campaign_id, answer) in enumerate(((refused, "n\n"), (later, "\n"), (left_open, "\x03"))):
            name = owner.asked(campaign_id).name
            screen.wait_for(rf"Take part in {name}, by the digest")
            assert screen.text.count("A campaign waits for you.") == number + 1
            screen.type(answer)
        assert screen.process.wait(20) == 0
        screen.wait_until_read()
    digest = owner.asked(later).spec_sha256
    assert f"two waits until you type:\n  fedloom agent approve {digest} --home {owner.home}" in screen.text
    assert owner.asked(refused).decision is Decision.REFUSED
    assert owner.asked(later).decision is owner.asked(left_open).decision is Decision.WAITING
    with owners_screen(owner.home) as again:
        again.wait_for(f"campaign two .* waits for you: see it with fedloom agent campaigns {digest}")
        again.wait_for("campaign three .* waits for you")
        owner.wait_for_state(refused, "left")
        assert "Take part in" not in again.text, "nobody is asked twice"


@pytest.mark.deep
def test_an_answer_in_another_terminal_ends_the_question(owner: OwnersAgent) -> None:
    with owners_screen(owner.home) as screen:
        campaign_id = owner.create()
        screen.wait_for(QUESTION)
        assert owner.approves(campaign_id).code == 0
        screen.wait_for("campaign small was decided elsewhere: accepted by you")
        owner.operator.wait_for(campaign_id, "completed", timeout_s=60)
        screen.type("n\n")
        assert screen.press_ctrl_c() == 0
    assert owner.asked(campaign_id).decision is Decision.ACCEPTED


def test_what_a_setting_refuses_is_named_and_not_asked_about(owner: OwnersAgent) -> None:
    owner.write_settings(policy='max_campaigns = 1\nkinds = ["sft"]\n')
    table = owner.home / "agent.toml"
    table.write_text(table.read_text().replace("[data.notes]\n", '[data.notes]\nalgorithms = ["fedprox"]\n'))
    with owners_screen(owner.home) as screen:
        campaign_id = owner.create()
        screen.wait_for("small waits until you type:")
        assert screen.press_ctrl_c() == 0
    assert 'the algorithm is fedavg, and data.notes.algorithms = ["fedprox"]' in screen.text
    assert "No approval overrides agent.toml" in screen.text
    assert "Take part in" not in screen.text
    assert owner.asked(campaign_id).decision is Decision.WAITING


@pytest.mark.deep
def test_a_job_in_the_background_reads_nothing_and_is_not_stopped(owner: OwnersAgent) -> None:
    with owners_screen(owner.home, in_background=True) as screen:
        campaign_id = owner.create()
        screen.wait_for(QUESTION)
        screen.type("y\n")
        screen.type("n\n")
        owner.wait_for_state(campaign_id, "waiting")
        assert owner.approves(campaign_id).code == 0
        screen.wait_for("campaign small was decided elsewhere: accepted by you")
        owner.operator.wait_for(campaign_id, "completed", timeout_s=60)
        assert screen.press_ctrl_c() == 0


def test_approve_asks_on_a_terminal_and_a_no_decides_nothing(owner: OwnersAgent) -> None:
    with owner.running():
        campaign_id = owner.create()
        digest = owner.asked(campaign_id).spec_sha256
    for answer, code, decision in (("n", 1, Decision.WAITING), ("y", 0, Decision.ACCEPTED)):
        with on_terminal("-m", "fedloom", "agent", "approve", "small", "--home", str(owner.home)) as screen:
            screen.wait_for(rf"Take part in small, by the digest\s+{digest}\? \[y/N\]")
            assert max(map(len, screen.text.splitlines())) <= 80
            screen.type(f"{answer}\n")
            assert screen.process.wait(20) == code
            screen.wait_until_read()
        assert owner.asked(campaign_id).decision is decision
        assert ("nothing was decided" in screen.text) == (answer == "n")
