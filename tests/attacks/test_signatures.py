"""A coordinator that says what it has not signed, or signs two tales: nothing is done, or owners who talk notice."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.record.bookings import Totals
from shared.signing.keys import SigningKey
from tests.agent.parts import prepare_assignment
from tests.attacks.attacked import Attacked, Ordered, attacked
from tests.attacks.hostile import refusal
from tests.support.signed import SignedChain

OTHER = {"sha256": "d" * 64, "n_bytes": 10}
WHAT_TO_DO = (
    "; nothing is done for this campaign. Compare `fedloom agent fingerprint` with other owners, and ask the operator"
)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Attacked]:
    with attacked(tmp_path_factory.mktemp("signed"), model, POLICY, signed_by=SigningKey.generate()) as running:
        yield running


def said(refused: str) -> str:
    assert refused.endswith(WHAT_TO_DO)
    return refused.removesuffix(WHAT_TO_DO)


def test_an_owner_is_not_even_asked_about_what_nobody_signed(owner: Attacked) -> None:
    campaign = owner.campaign("unsigned")
    chain = owner.coordinator.chains["unsigned"] = SignedChain(SigningKey.generate(), "unsigned")
    chain.say_specification(prepare_assignment(campaign.spec).spec_sha256)
    key = owner.coordinator.key.public[:12]
    words = f"signed by another key, {chain.key.public[:12]}…: this agent trusts {key}…, which has not signed that one"
    assert said(refusal(campaign.prepare())) == f"not-signed: statement 0 of this campaign is {words}"
    chain.texts.clear()
    chain.key = owner.coordinator.key
    chain.say_specification("c" * 64)
    refused = said(refusal(campaign.prepare()))
    assert refused.startswith("not-signed: spec_sha256: the coordinator asks for ")
    assert owner.record.campaigns.find("unsigned") is None
    assert "not-signed: statement 0 of this campaign is signed by another key" in owner.printed()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"adapter": OTHER}, "adapter.sha256: adapter 0 with dddddddddddd… is asked for, and "),
        ({"broadcast": OTHER, "round": 2}, "broadcast.sha256: dddddddddddd… is asked for, and none was signed"),
        ({"round": 3}, "adapter: no adapter 2 of this history was signed"),
        ({"history": 1}, "history: 1 is asked for, and 0 is the one that was signed"),
        ({"n_in_round": 9}, "n_in_round: 9 clients are asked for, and 3 are in the signed roster of round 1"),
        ({"reference": OTHER}, "reference.sha256: adapter 0 with dddddddddddd… is asked for, and "),
    ],
)
def test_a_task_is_what_was_signed(owner: Attacked, changes: dict[str, Any], why: str) -> None:
    name = "deviating-" + "-".join(changes).replace("_", "-")
    campaign = owner.campaign(name).begin()
    chain = owner.coordinator.chain_of(name)
    chain.say_adapter(0, campaign.adapter["sha256"])
    chain.say_roster(1, ["ada", "bob", "cyd"])
    if changes.get("round") == 2:
        chain.say_adapter(1, campaign.adapter["sha256"])
        chain.say_roster(2, ["ada", "bob", "cyd"])
    chain.is_final = True
    assert said(refusal(campaign.train(**changes))).startswith(f"not-signed: {why}")
    assert owner.totals(name) == Totals()
    allowed = campaign.train(**({"round": 2} if changes.get("round") == 2 else {}))
    assert allowed.result is not None, allowed.failure


def test_a_round_whose_roster_does_not_have_this_agent_is_not_trained(owner: Attacked) -> None:
    campaign = owner.campaign("left-out").begin()
    chain = owner.coordinator.chain_of("left-out")
    chain.say_adapter(0, campaign.adapter["sha256"])
    chain.say_roster(1, ["bob", "cyd", "dan"])
    chain.is_final = True
    assert said(refusal(campaign.train())) == "not-signed: round: this agent is not in the signed roster of round 1"
    assert said(refusal(campaign.evaluate(round=1))).startswith("not-signed: adapter: no adapter 1 of this history")
    assert owner.totals("left-out") == Totals()


def test_a_contradiction_is_kept_and_shown(owner: Attacked) -> None:
    campaign = owner.campaign("two-tales").begin()
    assert campaign.train().result is not None
    chain = owner.coordinator.chain_of("two-tales")
    chain.say_adapter(0, "e" * 64)
    chain.is_final = True
    assert "adapter 0 was signed before" in refusal(campaign.train(round=2))
    shown = owner.says("fingerprint", "two-tales")
    assert shown.startswith("statement 2: ")
    assert "refused" in shown
    assert "adapter 0 was signed before" in shown
    assert owner.totals("two-tales").n_trainings == 1


class Owners:
    """Two owners, each shown a coordinator of one operator, who signs by one key."""

    def __init__(self, ada: Attacked, bob: Attacked) -> None:
        self.both = (ada, bob)

    def begin(self, name: str, **changes: Any) -> list[Ordered]:
        return [owner.campaign(name, **changes if number else {}).begin() for number, owner in enumerate(self.both)]

    def fingerprints(self, name: str, *options: str) -> list[str]:
        shown = [owner.says("fingerprint", name, *options) for owner in self.both]
        found = [re.match(r"statement \d+: (\d{5} ?){8}", each) for each in shown]
        assert all(found), shown
        return [each[0] for each in found if each]


POLICY = 'accept = "any"\nmax_campaigns = 20\n'


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Owners]:
    key, folder = SigningKey.generate(), tmp_path_factory.mktemp
    with ExitStack() as stack:
        found = [stack.enter_context(attacked(folder("owner"), model, POLICY, signed_by=key)) for _ in range(2)]
        yield Owners(*found)


def another_roster(chain: SignedChain, start: str) -> None:
    chain.say_adapter(0, start)
    chain.say_roster(1, ["ada", "eve", "mallory"])


def the_same(chain: SignedChain, start: str) -> None:
    chain.say_adapter(0, start)
    chain.say_roster(1, ["ada", "bob", "cyd"])


@pytest.mark.deep
@pytest.mark.parametrize(
    ("second_is_told", "are_equal"), [(the_same, True), (another_roster, False)], ids=["the same", "another roster"]
)
def test_two_owners_compare_rosters(
    owners: Owners, second_is_told: Callable[[SignedChain, str], None], are_equal: bool
) -> None:
    name = f"two-owners-{'same' if are_equal else 'other'}"
    ada, bob = owners.begin(name)
    the_same(owners.both[0].coordinator.chain_of(name), ada.adapter["sha256"])
    second_is_told(owners.both[1].coordinator.chain_of(name), bob.adapter["sha256"])
    for owner, campaign in zip(owners.both, (ada, bob), strict=True):
        owner.coordinator.chain_of(name).is_final = True
        assert campaign.train().result is not None, "what each is told hangs together"
    lines = owners.fingerprints(name)
    assert (lines[0] == lines[1]) is are_equal
    assert owners.fingerprints(name, "--at", "1")[0] == owners.fingerprints(name, "--at", "1")[1]


@pytest.mark.deep
def test_two_owners_compare_adapters(owners: Owners) -> None:
    name = "two-owners-adapters"
    ada, bob = owners.begin(name)
    for number, (owner, campaign) in enumerate(zip(owners.both, (ada, bob), strict=True)):
        assert campaign.train().result is not None
        owner.coordinator.chain_of(name).say_adapter(1, f"{number}" * 64)
    lines = owners.fingerprints(name)
    assert lines[0] != lines[1]
    before = owners.fingerprints(name, "--at", "2")
    assert before[0] == before[1]


@pytest.mark.deep
def test_two_owners_compare_specifications(owners: Owners) -> None:
    owners.begin("two-owners-specs", training={"seed": 8})
    lines = owners.fingerprints("two-owners-specs", "--at", "0")
    assert lines[0] != lines[1]
