"""An agent follows what its coordinator signs, over HTTP, and refuses all that contradicts it or is of another key."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.errors import TaskFailed
from agent.signing.following import SignedCampaigns
from agent.signing.standing import Standing
from shared.signing.keys import SigningKey
from shared.signing.statements import AdapterSigned
from shared.wire.statements import KeySuccession, SignedStatements, succession_text
from shared.wire.tasks.leases import FailureKind
from tests.agent.parts import Home
from tests.agent.scripted_coordinator import ScriptedCoordinator, scripted_coordinator
from tests.support.ledgers import api_of
from tests.support.signed import SignedChain

ADAPTER = "a" * 64


class Followed:
    """An agent that follows one campaign of a coordinator, whose chain the test writes."""

    def __init__(self, coordinator: ScriptedCoordinator, home: Home) -> None:
        self.coordinator = coordinator
        self.home = home
        self.statements = home.workspace.record.statements(coordinator.key.public)
        self.first_key = coordinator.key
        self.chain = coordinator.chain_of("c1")

    def catch_up(self, sent: SignedStatements | None = None) -> Standing:
        """Follow as a process that was just started. sent: what came with a task."""

        async def work() -> Standing:
            api = api_of(self.coordinator.url, "s")
            try:
                return await SignedCampaigns(api, "ada", self.statements).catch_up("c1", sent)
            finally:
                await api.close()

        return asyncio.run(work())

    def refused(self, sent: SignedStatements | None = None) -> str:
        with pytest.raises(TaskFailed) as refused:
            self.catch_up(sent)
        assert refused.value.failure.kind is FailureKind.NOT_SIGNED
        said, _, what_to_do = refused.value.failure.message.partition("; nothing is done for this campaign. ")
        assert what_to_do == "Compare `fedloom agent fingerprint` with other owners, and ask the operator"
        return said


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    with scripted_coordinator(tmp_path) as coordinator:
        found = Followed(coordinator, coordinator.enroll(tmp_path / "home"))
        found.chain.say_specification("b" * 64)
        found.chain.say_adapter(0, ADAPTER)
        found.chain.say_roster(1, ["ada", "bob"])
        found.catch_up()
        yield found


def test_what_follows_is_stored_once(followed: Followed) -> None:
    before = followed.statements.of_campaign("c1")
    assert before == followed.chain.texts
    assert followed.catch_up().number == 2
    followed.chain.say_adapter(1, ADAPTER)
    assert followed.catch_up().newest_adapter == 1
    assert followed.statements.of_campaign("c1") == followed.chain.texts
    assert followed.statements.contradictions("c1") == []


def test_many_statements_come_in_pages(followed: Followed) -> None:
    followed.coordinator.page = 7
    for number in range(1, 30):
        followed.chain.say_adapter(number, ADAPTER)
        followed.chain.say_roster(number + 1, ["ada"])
    assert followed.catch_up().newest_adapter == 29
    assert followed.statements.of_campaign("c1") == followed.chain.texts


def test_what_came_with_a_task_is_checked_and_not_asked_for(followed: Followed) -> None:
    followed.chain.say_adapter(1, ADAPTER)
    sent = SignedStatements(statements=followed.chain.signed(2), has_more=False)
    followed.coordinator.changed = {3: {"signature": ""}}  # it would not get this one by asking
    assert followed.catch_up(sent).newest_adapter == 1
    assert followed.statements.of_campaign("c1") == followed.chain.texts
    followed.chain.say_roster(2, ["ada"])
    [known, new] = followed.chain.signed(3)
    unsigned = new.model_copy(update={"signature": ""})
    said = followed.refused(SignedStatements(statements=[known, unsigned], has_more=False))
    assert said == "statement 4 of this campaign is not signed"


@pytest.mark.parametrize("first", [0, 1, 3, 9])
def test_what_came_with_a_task_and_follows_nothing_known_is_asked_for(followed: Followed, first: int) -> None:
    followed.chain.say_adapter(1, ADAPTER)
    sent = SignedStatements(statements=followed.chain.signed(first), has_more=False)
    assert followed.catch_up(sent).newest_adapter == 1
    assert followed.statements.of_campaign("c1") == followed.chain.texts


def test_a_tale_told_anew_with_a_task_is_refused(followed: Followed) -> None:
    only_told_anew(followed)
    for sent in (None, SignedStatements(statements=followed.chain.signed(2), has_more=False)):
        assert followed.refused(sent) == "statement 2 of this campaign is not the one that was signed before"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"signature": ""}, "statement 3 of this campaign is not signed"),
        ({"signature": "0" * 128}, "the signature of statement 3 of this campaign is not of the key that it names"),
        ({"key": "0" * 64}, "the signature of statement 3 of this campaign is not of the key that it names"),
        ({"key": "no key", "signature": "none"}, "the signature of statement 3 of this campaign is not of the key"),
        ({"text": "{}"}, "the signature of statement 3 of this campaign is not of the key that it names"),
    ],
)
def test_what_is_not_signed_is_refused(followed: Followed, change: dict[str, str], said: str) -> None:
    followed.chain.say_adapter(1, ADAPTER)
    followed.coordinator.changed = {3: change}
    assert followed.refused().startswith(said)
    assert len(followed.statements.of_campaign("c1")) == 3
    assert followed.statements.contradictions("c1") == [], "what nobody signed is no evidence"
    followed.coordinator.changed = {}
    assert followed.catch_up().number == 3, "the refusal is of what was sent, and not for ever"


def test_another_key_is_refused(followed: Followed) -> None:
    trusted, other = followed.chain.key.public[:12], SigningKey.generate()
    followed.chain.key = other
    followed.chain.say_adapter(1, ADAPTER)
    said = (
        f"is signed by another key, {other.public[:12]}…: this agent trusts {trusted}…, which has not signed that one"
    )
    assert followed.refused() == f"statement 2 of this campaign {said}"
    followed.coordinator.key = other  # that it also calls its own
    assert followed.refused() == f"statement 2 of this campaign {said}"


def test_a_key_that_the_trusted_one_signed_is_followed(followed: Followed, caplog: pytest.LogCaptureFixture) -> None:
    rotate(followed)
    rotate(followed)
    followed.chain.say_adapter(1, ADAPTER)
    assert followed.catch_up().newest_adapter == 1
    assert (
        f"the coordinator signs by a new key, {followed.chain.key.public[:12]}…, which its old one signed"
        in caplog.text
    )
    followed.chain.key = followed.first_key  # an old key, which somebody else may have by now
    followed.chain.say_roster(2, ["ada"])
    assert followed.refused().startswith("statement 3 of this campaign is signed by another key")


def test_a_later_key_is_followed_where_nothing_new_was_signed(followed: Followed) -> None:
    """Otherwise owners who asked before and after a rotation would see different lines for the same statement."""
    rotate(followed)
    assert followed.catch_up().number == 2
    assert [key for key, _ in followed.statements.later_keys()] == [followed.chain.key.public]


def test_what_is_known_must_still_be_signed(followed: Followed) -> None:
    followed.coordinator.changed = {2: {"signature": ""}}
    assert followed.refused() == "statement 2 of this campaign is not signed"
    followed.coordinator.changed = {}
    other = followed.chain.key = followed.coordinator.key = SigningKey.generate()
    assert followed.refused().startswith(f"statement 2 of this campaign is signed by another key, {other.public[:12]}…")


def rotate(followed: Followed) -> None:
    old, new = followed.coordinator.key, SigningKey.generate()
    signature = old.sign(succession_text(new.public))
    followed.coordinator.successions.append(KeySuccession(old=old.public, new=new.public, signature=signature))
    followed.coordinator.key = followed.chain.key = new


def another(followed: Followed) -> SignedChain:
    """The coordinator tells this agent's campaign anew, from another roster on."""
    chain = followed.chain = followed.coordinator.chains["c1"] = SignedChain(followed.coordinator.key, "c1")
    chain.say_specification("b" * 64)
    chain.say_adapter(0, ADAPTER)
    chain.say_roster(1, ["ada", "eve"])
    return chain


def only_told_anew(followed: Followed) -> None:
    another(followed)


def told_on_and_on(followed: Followed) -> None:
    chain = another(followed)
    chain.say_adapter(1, ADAPTER)
    chain.say_roster(2, ["ada", "eve"])


def told_with_a_later_history_further_on(followed: Followed) -> None:
    another(followed).say_history(5, 0)


def told_with_another_specification(followed: Followed) -> None:
    chain = followed.chain = followed.coordinator.chains["c1"] = SignedChain(followed.coordinator.key, "c1")
    chain.say_specification("c" * 64)
    chain.say_history(9, None)


@pytest.mark.parametrize(
    ("tell", "number"),
    [
        (only_told_anew, 2),
        (told_on_and_on, 2),
        (told_with_a_later_history_further_on, 2),
        (told_with_another_specification, 0),
    ],
)
def test_another_tale_is_refused_and_kept_as_evidence(
    followed: Followed, tell: Callable[[Followed], None], number: int
) -> None:
    before = followed.statements.of_campaign("c1")
    tell(followed)
    for _ in range(2):
        assert followed.refused() == f"statement {number} of this campaign is not the one that was signed before"
    [kept] = followed.statements.contradictions("c1")
    assert kept.text == followed.chain.texts[number]
    assert followed.statements.of_campaign("c1") == before


def test_a_statement_that_cannot_follow_is_refused_and_kept(followed: Followed) -> None:
    followed.chain.add(AdapterSigned, adapter=0, sha256="f" * 64)
    said = "statement 3 of this campaign contradicts what was signed before: adapter 0 was signed before"
    assert followed.refused().startswith(said)
    [kept] = followed.statements.contradictions("c1")
    assert kept.text == followed.chain.texts[3]


@pytest.mark.parametrize("n_left", [0, 2])
def test_statements_that_are_gone_are_missed(followed: Followed, n_left: int) -> None:
    del followed.chain.texts[n_left:]
    assert followed.refused() == f"statement {n_left} of this campaign is gone, which was signed before"


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_restored_coordinator_is_followed_into_a_later_history(
    followed: Followed, caplog: pytest.LogCaptureFixture, goes_on: bool
) -> None:
    followed.chain.say_adapter(1, ADAPTER)
    followed.catch_up()
    before = followed.chain.texts[:]
    restored = followed.chain = followed.coordinator.chains["c1"] = SignedChain(followed.coordinator.key, "c1")
    restored.say_specification("b" * 64)
    restored.say_adapter(0, ADAPTER)
    restored.say_history(1000, 0)
    if goes_on:
        for number in (1, 2, 3):
            restored.say_roster(number, ["bob", "cyd"])
            restored.say_adapter(number, "d" * 64)
    standing = followed.catch_up()
    assert standing.history == 1000
    assert followed.statements.of_campaign("c1") == restored.texts
    assert followed.catch_up().number == len(restored.texts) - 1
    assert "restored from a backup: 2 of its statements, from number 2 on, hold no more" in caplog.text
    followed.coordinator.chains["c1"].texts[:] = before  # and not back again
    assert followed.refused() == "statement 2 of this campaign is not the one that was signed before"


def test_an_empty_chain_says_nothing(tmp_path: Path) -> None:
    with scripted_coordinator(tmp_path) as coordinator:
        found = Followed(coordinator, coordinator.enroll(tmp_path / "home"))
        assert found.catch_up().spec_sha256 is None
